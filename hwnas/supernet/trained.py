"""Which finished trainings a supernet is calibrated on: comparable ones, of networks of its space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.errors import UsageError
from hwnas.space import ArchSpec
from hwnas.supernet.judge import Judge
from hwnas.train.trainings import Training

__all__ = ["Comparable", "comparable"]


@dataclass(frozen=True, slots=True)
class Comparable:
    """Networks of a supernet's space that were trained alone, all under one condition."""

    condition: str
    """Which images, how many epochs: for people."""
    archs: tuple[ArchSpec, ...]
    top1_percent: tuple[float, ...]
    """After the last epoch, on the images of val, or test; the mean over a network's seeds."""


def comparable(trainings: Sequence[Training], judge: Judge) -> Comparable:
    """Those of `trainings` under the condition that most networks of the space were trained under, the
    later one of two.

    Raises UsageError when there is no training of a network of the space with as many classes.
    """
    by_condition: dict[str, dict[str, list[Training]]] = {}
    for training in trainings:
        if training.condition.classes == len(judge.classes) and judge.can_judge(training.arch):
            networks = by_condition.setdefault(training.condition.key, {})
            networks.setdefault(training.arch.id, []).append(training)
    if not by_condition:
        raise UsageError(
            f"a supernet is calibrated on trainings of networks of its space, for its {len(judge.classes)} "
            f"classes; got {len(trainings)} trainings, none of them such"
        )
    chosen = max(reversed(by_condition.values()), key=len)
    return Comparable(
        condition=next(iter(chosen.values()))[0].condition.label,
        archs=tuple(seeds[0].arch for seeds in chosen.values()),
        top1_percent=tuple(
            sum(training.top1_percent for training in seeds) / len(seeds) for seeds in chosen.values()
        ),
    )
