"""Accuracy with the weights of a supernet. `--accuracy supernet:PATH`, or `supernet:PATH,data=DATA`.

Networks are ordered by their loss, with their slices of the shared weights, on images that the supernet was
not trained on: seconds a network. With `data`, what the supernet was trained on, each network first learns
from it alone, for `updates` updates: longer, and a much better order. Without more the value is that loss,
negated, in nats: an order. A supernet that was calibrated on trained networks (`hwnas supernet calibrate`)
gives the accuracy that those let expect of the network when trained alone, in percent. The deviation is that
of so many images, and of the calibration.

How well it ranks: experiments/supernet.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.accuracy._argument import parsed
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.evaluator import EvaluatedSubnet, SubnetEvaluator

__all__ = ["SupernetAccuracy", "estimator", "space_of"]

OPTIONS = {"data": "", "updates": None}


class SupernetAccuracy:
    """Estimates by the loss on the supernet's held-back images; calibrated, top-1 in percent."""

    def __init__(self, evaluator: SubnetEvaluator, calibration: Calibration | None = None) -> None:
        self._evaluator = evaluator
        self._calibration = calibration

    @property
    def unit(self) -> str:
        return "nats" if self._calibration is None else "%"

    def predict(self, arch: ArchSpec) -> Estimate:
        """The estimate for the network, adapted to the supernet's image size, stem and classes.

        Raises UsageError for a network outside of the supernet's space.
        """
        return self.predict_many([arch])[0]

    def predict_many(self, archs: list[ArchSpec]) -> list[Estimate]:
        """The same for several networks, for which images are prepared once."""
        return [self.estimate(evaluated) for evaluated in self._evaluator.evaluate(archs)]

    def estimate(self, evaluated: EvaluatedSubnet) -> Estimate:
        """What a network's loss with the shared weights lets expect."""
        line = self._calibration
        if line is None:
            return Estimate(-evaluated.loss, evaluated.loss_std, unit=self.unit)
        value = min(100.0, max(0.0, line.top1_percent(evaluated.loss)))
        std = math.hypot(line.std_percent, line.slope * evaluated.loss_std)
        return Estimate(value, std, unit=self.unit)


def space_of(argument: str | None) -> SearchSpace:
    """The space that a supernet was trained for, at its image size, stem stride and classes; `argument` as
    for `estimator`. Raises UsageError when there is no supernet, FileFormatError when it is damaged."""
    folder, _ = parsed("supernet", argument, OPTIONS)
    plugins.require("torch", extra="torch")
    from hwnas.supernet.checkpoint import load

    return load(Path(folder)).space


def estimator(argument: str | None = None) -> SupernetAccuracy:
    """The estimator for PATH and OPTIONS: `shared`, or `shared,data=photos.tar,updates=70`.

    Raises UsageError for anything else, without a supernet there, and for other images than its own.
    """
    folder, options = parsed("supernet", argument, OPTIONS)
    if not folder:
        raise UsageError(
            "the accuracy estimator 'supernet' needs the folder of a trained one: supernet:FOLDER "
            "('hwnas supernet train' makes one)"
        )
    data, updates = options["data"], options["updates"]
    if updates is not None and not data:
        raise UsageError(
            "'supernet': updates need the images that it was trained on: "
            f"supernet:{folder},data=DATA,updates={updates}"
        )
    torch = plugins.require("torch", extra="torch")
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.evaluator import SubnetEvaluator

    device = "cuda" if torch.cuda.is_available() else "cpu"
    evaluator = SubnetEvaluator.load(folder, device=device, data=data or None, updates=updates)
    path = Path(folder)
    calibration = Calibration.read(path if path.is_dir() else path.parent, evaluator.updates)
    return SupernetAccuracy(evaluator, calibration)
