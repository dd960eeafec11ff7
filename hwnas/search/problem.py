"""Problem: a space, a latency bound that is known before anything is evaluated, an accuracy.

Latency costs a fraction of a millisecond and accuracy may cost hours. So samplers ask this class
about latency as often as they like, and only what fits the budget is ever evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import HwnasError, UsageError
from hwnas.predictors.estimate import Estimate, Predictor
from hwnas.search.candidate import Trial
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace

__all__ = ["Problem", "Vector", "cost_ms"]

Vector = tuple[int, ...]
CACHED_LATENCIES = 200_000


def cost_ms(latency: Estimate, confidence: float | None) -> float:
    """What a latency counts against a budget: its value, or its quantile at the wished confidence.

    The quantile takes the ratio of measured to predicted as log-normal, with the estimate's spread.
    """
    if confidence is None:
        return latency.value
    return latency.value * math.exp(NormalDist().inv_cdf(confidence) * latency.std / latency.value)


class Problem:
    """What a search has to solve. Vectors are those of `SearchSpace.encode`."""

    def __init__(
        self,
        space: SearchSpace,
        latency: Predictor,
        accuracy: Predictor,
        *,
        budget_ms: float,
        confidence: float | None = None,
    ) -> None:
        if not math.isfinite(budget_ms) or budget_ms <= 0:
            raise UsageError(f"a budget must be a positive number of milliseconds, got {budget_ms}")
        if confidence is not None and not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be from 0.5 to below 1, got {confidence}")
        self.space = space
        self.budget_ms = budget_ms
        self._latency = latency
        self._accuracy = accuracy
        self._confidence = confidence
        self._latencies: dict[Vector, Estimate] = {}

    def latency(self, vector: Vector) -> Estimate:
        """The predicted latency of the network, in ms. Asked twice, computed once."""
        estimate = self._latencies.get(vector)
        if estimate is None:
            estimate = self._latency.predict(self.space.decode(vector))
            if len(self._latencies) >= CACHED_LATENCIES:
                self._latencies.clear()
            self._latencies[vector] = estimate
        return estimate

    def cost_ms(self, vector: Vector) -> float:
        """What is held against the budget: the latency, or its quantile at the wished confidence.

        Raises UsageError when a confidence is wished and the table does not know its error.
        """
        estimate = self.latency(vector)
        if self._confidence not in (None, 0.5) and estimate.std == 0:
            raise UsageError(
                "a confidence needs a table that knows its own error, and this one does not: "
                "leave the confidence out, or use a device with an error in 'hwnas devices'"
            )
        return cost_ms(estimate, self._confidence)

    def fits(self, vector: Vector) -> bool:
        """Whether the network is within the budget."""
        return self.cost_ms(vector) <= self.budget_ms

    def latencies_ms(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.float64]:
        """The predicted latency of many networks, shape (n,), for vectors, shape (n, decisions).

        In arrays where the predictor knows how (`predict_many`), one at a time otherwise.
        """
        many = np.asarray(vectors, dtype=np.int64)
        if hasattr(self._latency, "predict_many"):
            return np.asarray(self._latency.predict_many(many, self.space), dtype=float)
        return np.array([self.latency(tuple(row)).value for row in many.tolist()], dtype=float)

    def known_objectives(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.float64]:
        """What a search minimises besides accuracy, and knows beforehand; shape (n, objectives).

        The same numbers as a trial's values without its last, the accuracy: here latency alone.
        """
        return self.latencies_ms(vectors)[:, None]

    def fit(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.bool_]:
        """Whether each of many networks is within the budget, shape (n,); see `fits`."""
        latencies_ms = self.latencies_ms(vectors)
        if self._confidence in (None, 0.5) or len(latencies_ms) == 0:
            return latencies_ms <= self.budget_ms
        # A table's error is a share of the latency, the same for every network.
        first = tuple(np.asarray(vectors, dtype=np.int64)[0].tolist())
        return latencies_ms * (self.cost_ms(first) / self.latency(first).value) <= self.budget_ms

    def evaluate(self, vector: Vector) -> Trial:
        """The network with everything that a front needs; the one place that asks for accuracy.

        Raises HwnasError when the network is over the budget (a sampler's mistake), and what the
        estimator raises.
        """
        if not self.fits(vector):
            raise HwnasError(
                f"only networks within the budget are evaluated, got {self.cost_ms(vector):.4g} ms "
                f"for a budget of {self.budget_ms:g} ms: the sampler has a mistake"
            )
        arch = self.space.decode(vector)
        ops = lower(arch)
        return Trial(
            id=arch.id,
            vector=vector,
            latency=self.latency(vector),
            accuracy=self._accuracy.predict(arch),
            params=count_params(ops),
            macs=count_macs(ops),
        )
