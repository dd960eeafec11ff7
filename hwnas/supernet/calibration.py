"""What a network's loss with shared weights says of its accuracy when trained alone.

Trainings that a user already has tell how the two go together: a line through them, and how far off it they
lie. The loss, because it orders networks better than the share of images that is right: experiments/supernet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import FileFormatError, UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole
from hwnas.space import ArchSpec

if TYPE_CHECKING:
    from hwnas.supernet.evaluator import SubnetEvaluator
    from hwnas.train.trainings import Training

__all__ = [
    "Calibration",
    "Comparable",
    "comparable",
]

FORMAT = 3  # 1: of the accuracy with shared weights; 2: of the loss; 3: has a checksum
LEAST = 4
"""Fewest trainings for a line and its spread."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """top-1 when trained (percent) = intercept - slope * loss with shared weights (nats)."""

    intercept: float
    """Percent."""
    slope: float
    """Percent a nat; at least 0."""
    std_percent: float
    """Standard deviation of what was trained from the line, each training left out in turn, without what
    the number of held-back images explains of it."""
    trainings: int
    """Networks that were trained."""

    @classmethod
    def fitted(
        cls,
        losses: Sequence[float],
        trained_percent: Sequence[float],
        *,
        loss_stds: Sequence[float],
    ) -> Calibration:
        """The line of least squares, which never rises: shared weights that rank the wrong way round
        say nothing. `loss_stds` is how sure each loss is, by its images; losses in nats.

        Raises UsageError below four networks.
        """
        cls.require_enough(len(trained_percent))
        pairs = [(-loss, trained) for loss, trained in zip(losses, trained_percent, strict=True)]
        intercept, slope = _line(pairs)
        errors = []
        for left_out, (shared, trained) in enumerate(pairs):
            a, b = _line(pairs[:left_out] + pairs[left_out + 1 :])
            errors.append(trained - (a + b * shared))
        by_images = sum((slope * std) ** 2 for std in loss_stds)
        std = math.sqrt(max(0.0, sum(error * error for error in errors) - by_images) / len(errors))
        return cls(intercept, slope, std, len(pairs))

    def top1_percent(self, loss: float) -> float:
        """What a network with this loss, in nats, is expected to come to."""
        return self.intercept - self.slope * loss

    @staticmethod
    def require_enough(networks: int) -> None:
        """Raises UsageError when `networks` are too few for a line and its spread."""
        if networks < LEAST:
            raise UsageError(f"a supernet is calibrated on at least {LEAST} trained networks, got {networks}")

    def write(self, folder: Path, updates: int) -> Path:
        """Writes a file beside the supernet, which every estimate after so many `updates` of a network alone
        goes by from then on."""
        path = _file(folder, updates)
        write_whole(path, json_io.sealed({"format": FORMAT, **asdict(self)}))
        return path

    @classmethod
    def read(cls, folder: Path, updates: int) -> Calibration | None:
        """The calibration in a supernet's folder for so many updates; None when there is none.

        Raises FileFormatError when the file is damaged or of another version.
        """
        path = _file(folder, updates)
        if not path.exists():
            return None
        try:
            data = json_io.read(path)
            version = data.pop("format")
            if version not in (FORMAT - 1, FORMAT):
                raise ValueError("of another version of hwnas")
            json_io.require_checksum({"format": version, **data}, has_one=version == FORMAT)
            data.pop("checksum", None)
            found = cls(**data)
            if not all(math.isfinite(float(value)) for value in asdict(found).values()):
                raise ValueError("numbers must be finite")
        except (FileFormatError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileFormatError(
                f"{path}: not a supernet's calibration: {error}: remove it, or calibrate again"
            ) from None
        return found


def _file(folder: Path, updates: int) -> Path:
    return folder / (f"calibration-{updates}.json" if updates else "calibration.json")


def _line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(intercept, slope) by least squares; the slope is at least 0."""
    mean_x, mean_y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in pairs)
    together = sum((x - mean_x) * (y - mean_y) for x, y in pairs)
    slope = max(0.0, together / spread) if spread else 0.0
    return mean_y - slope * mean_x, slope


# --- finished trainings that a supernet can be calibrated on ----------------------------------


@dataclass(frozen=True, slots=True)
class Comparable:
    """Networks of a supernet's space that were trained alone, all under one condition."""

    condition: str
    """Which images, how many epochs: for people."""
    archs: tuple[ArchSpec, ...]
    top1_percent: tuple[float, ...]
    """After the last epoch, on the images of val, or test; the mean over a network's seeds."""


def comparable(trainings: Sequence[Training], evaluator: SubnetEvaluator) -> Comparable:
    """Those of `trainings` under the condition that most networks of the space were trained under, the
    later one of two.

    Raises UsageError when there is no training of a network of the space with as many classes.
    """
    by_condition: dict[str, dict[str, list[Training]]] = {}
    for training in trainings:
        if training.condition.classes == len(evaluator.classes) and evaluator.supports(training.arch):
            networks = by_condition.setdefault(training.condition.key, {})
            networks.setdefault(training.arch.id, []).append(training)
    if not by_condition:
        raise UsageError(
            f"a supernet is calibrated on trainings of networks of its space, "
            f"for its {len(evaluator.classes)} classes; got {len(trainings)} trainings, none "
            "of which is comparable"
        )
    chosen = max(reversed(by_condition.values()), key=len)
    return Comparable(
        condition=next(iter(chosen.values()))[0].condition.label,
        archs=tuple(seeds[0].arch for seeds in chosen.values()),
        top1_percent=tuple(
            sum(training.top1_percent for training in seeds) / len(seeds) for seeds in chosen.values()
        ),
    )
