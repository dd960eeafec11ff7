"""Estimate: a predicted number with how sure it is. Predictor: anything that gives one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace
from hwnas.types import Floats, Ints

__all__ = ["ArrayPredictor", "Estimate", "Predictor", "is_cheap"]


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
        if not math.isfinite(self.value) or not 0 <= self.std < math.inf:
            raise ValueError(
                f"an estimate must be finite with a finite standard deviation of at least 0, "
                f"got value={self.value} and std={self.std}"
            )

    def __repr__(self) -> str:
        """`Estimate(19.9 ms, 16.2-24.2)`, or with a standard deviation `Estimate(75.1 +- 0.6 %)`."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"Estimate({self.value:.3g}{unit}, {self.low:.3g}-{self.high:.3g})"
        return f"Estimate({self.value:.3g}{f' +- {self.std:.2g}' if self.std else ''}{unit})"

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


@runtime_checkable
class ArrayPredictor(Protocol):
    """A predictor that answers for many networks of a space at once, in microseconds each."""

    @property
    def unit(self) -> str: ...

    def predict(self, arch: ArchSpec) -> Estimate:
        """The estimate for one network."""
        ...

    @property
    def in_arrays(self) -> bool:
        """Whether `predict_many` may be called; an estimator that was given slow inputs says no."""
        ...

    def predict_many(self, encoded: Ints, space: SearchSpace) -> tuple[Floats, Floats]:
        """Value and standard deviation, (n,) each, for vectors of the space, shape (n, decisions)."""
        ...

    def estimate(self, value: float, std: float) -> Estimate:
        """The estimate, with its interval, that has this value and standard deviation."""
        ...


def is_cheap(predictor: object) -> bool:
    """Whether an answer costs about a millisecond: less than thinking about what to ask next.

    The predictor declares it with an attribute `cheap`; without one it is taken to be expensive. It is not
    timed, because what a search proposes must not depend on the load of a machine.
    """
    return bool(getattr(predictor, "cheap", False))
