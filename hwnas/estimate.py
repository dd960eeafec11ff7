"""Estimate: a predicted number with how sure it is. Predictor: anything that gives one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from hwnas.space.arch import ArchSpec

__all__ = ["Estimate", "Predictor", "is_cheap"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted number. Latency, accuracy, energy and memory alike."""

    value: float
    """The prediction itself, in `unit`."""
    std: float = 0.0
    """Standard deviation, in `unit`; 0 when it is not known."""
    low: float | None = None
    """Lower end of the interval; None when there is none."""
    high: float | None = None
    """Upper end of the interval; None when there is none."""
    unit: str = ""
    """`ms`, `%`, `mJ`, `bytes`."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or not self.std >= 0:
            raise ValueError(
                f"an estimate must be finite with a standard deviation of at least 0, "
                f"got value={self.value} and std={self.std}"
            )

    def lower_bound(self, *, deviations: float = 1.0) -> float:
        """`value - deviations * std`: what a cautious search maximises."""
        return self.value - deviations * self.std


class Predictor(Protocol):
    """Says what a network will do without running it."""

    @property
    def unit(self) -> str: ...

    def predict(self, arch: ArchSpec) -> Estimate:
        """The estimate for one network."""
        ...


def is_cheap(predictor: object) -> bool:
    """Whether an answer costs about a millisecond: less than thinking about what to ask next.

    The predictor says so itself, with an attribute `cheap`; who says nothing is taken to be dear. It is
    not timed, because what a search proposes must not depend on how busy a machine was.
    """
    return bool(getattr(predictor, "cheap", False))
