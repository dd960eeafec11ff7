"""Accuracy with the weights of a supernet: seconds a network, no training. `--accuracy supernet:PATH`.

Networks are ordered by their loss, with their slices of the shared weights, on images that the supernet was
not trained on. Without more the value is that loss, negated, in nats: an order. A supernet that was
calibrated on trained networks (`hwnas supernet calibrate`) gives the accuracy that those let expect of the
network when trained alone, in percent. The deviation is that of so many images, and of the calibration.

How well it ranks: experiments/supernet.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.predictors.estimate import Estimate
from hwnas.space.arch import ArchSpec

if TYPE_CHECKING:
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.judge import Judge, Judged

__all__ = ["SupernetAccuracy", "estimator"]


class SupernetAccuracy:
    """Estimates by the loss on the supernet's held-back images; calibrated, top-1 in percent."""

    def __init__(self, judge: Judge, calibration: Calibration | None = None) -> None:
        self._judge = judge
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
        return [self.estimate(judged) for judged in self._judge.judged(archs)]

    def estimate(self, judged: Judged) -> Estimate:
        """What a network's loss with the shared weights lets expect."""
        line = self._calibration
        if line is None:
            return Estimate(-judged.loss, judged.loss_std, unit=self.unit)
        value = min(100.0, max(0.0, line.top1_percent(judged.loss)))
        std = math.hypot(line.std_percent, line.slope * judged.loss_std)
        return Estimate(value, std, unit=self.unit)


def estimator(argument: str | None = None) -> SupernetAccuracy:
    """The estimator of the supernet in a folder; raises UsageError without one."""
    if not argument:
        raise UsageError(
            "the accuracy estimator 'supernet' needs the folder of a trained one: supernet:FOLDER "
            "('hwnas supernet train' makes one)"
        )
    torch = plugins.require("torch", extra="torch")
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.judge import Judge

    path = Path(argument)
    judge = Judge.load(path, device="cuda" if torch.cuda.is_available() else "cpu")
    return SupernetAccuracy(judge, Calibration.read(path if path.is_dir() else path.parent))
