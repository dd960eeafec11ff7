"""Evidence: networks that a table was not fitted on, measured and predicted; intervals from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from hwnas import metrics as evaluation

__all__ = ["CROSS_VALIDATION", "HeldOut", "HeldOutNetwork"]

CROSS_VALIDATION = "cross-validation"


@dataclass(frozen=True, slots=True)
class HeldOutNetwork:
    """One network that the fit did not see."""

    label: str
    """A preset's name, an architecture's id or a publication's name for it."""
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How good a table is on whole networks that it was not fitted on."""

    networks: tuple[HeldOutNetwork, ...] = ()
    method: str = "held-out networks"
    """`held-out networks`; `cross-validation`: each predicted by a fit without it (and without as many
    others as the folds ask); `leave-one-family-out`: each predicted by a fit without its family."""
    fresh_std: float = 0.0
    """By how much a network timed once, in one fresh process, deviates from its `measured_ms`, relative: the
    intervals hold for such a timing. 0 where it was not measured, as in tables from before."""

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def errors(self) -> tuple[float, ...]:
        """predicted / measured - 1 of each network."""
        return tuple(item.predicted_ms / item.measured_ms - 1 for item in self.networks)

    @property
    def mape_percent(self) -> float | None:
        """Mean absolute percentage error; None without networks."""
        return evaluation.mape_percent(self._measured, self._predicted) if self.networks else None

    @property
    def median_percent(self) -> float | None:
        """Median absolute percentage error; None without networks."""
        return 100 * float(np.median(np.abs(self.errors))) if self.networks else None

    def within_percent(self, percent: float) -> float | None:
        """The share of networks, in percent, predicted within so many percent."""
        if not self.networks:
            return None
        return evaluation.within_percent(self._measured, self._predicted, percent)

    @property
    def spearman(self) -> float | None:
        """Rank correlation of measured and predicted; None below three networks."""
        if len(self.networks) < 3:
            return None
        return evaluation.spearman(self._measured, self._predicted)

    @property
    def log_std(self) -> float:
        """Standard deviation of log(measured / predicted) about zero; 0 without networks."""
        return float(np.sqrt(np.mean(np.square(self._log_ratios())))) if self.networks else 0.0

    @property
    def prediction_std(self) -> float:
        """Standard deviation of log(one fresh timing / predicted)."""
        return math.hypot(self.log_std, self.fresh_std)

    def factor(self, level: float = 0.9) -> float:
        """The f for which one fresh timing is within predicted / f .. predicted * f at this level.

        Split conformal prediction on |log(measured / predicted)|: with n networks, the
        ceil((n + 1) level)-th smallest. Where n is too small for the level (below 9 for 0.9) it is
        the largest seen. The normal quantile of `fresh_std` is added to it in squares. 1 without networks.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        if not self.networks:
            return 1.0
        scores = sorted(abs(ratio) for ratio in self._log_ratios())
        rank = min(math.ceil((len(scores) + 1) * level), len(scores))
        fresh = NormalDist().inv_cdf(0.5 + level / 2) * self.fresh_std
        return math.exp(math.hypot(scores[rank - 1], fresh))

    @property
    def _measured(self) -> list[float]:
        return [item.measured_ms for item in self.networks]

    @property
    def _predicted(self) -> list[float]:
        return [item.predicted_ms for item in self.networks]

    def _log_ratios(self) -> list[float]:
        return [math.log(item.measured_ms / item.predicted_ms) for item in self.networks]
