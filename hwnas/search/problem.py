"""Problem: a space, bounds that are known before anything is evaluated, an accuracy.

Latency costs a fraction of a millisecond and accuracy may cost hours. So samplers ask this class
about latency as often as they like, and only what keeps every bound is ever evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate, Predictor, is_cheap
from hwnas.search.objectives import FEW, Latency, Size, Wanted, cost_ms, tail_of
from hwnas.search.trial import Trial
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace, Vector

__all__ = ["BUDGET_ON", "Problem", "check_budget", "cost_ms"]

BUDGET_ON = ("p50", "p95")
"""What a budget may be held against: the latency itself, or the tail of single runs."""
CACHED_COSTS = 50_000
ROUNDING = 1e-9
"""One network and many at once may differ by so much in their last digits."""


class Problem:
    """What a search has to solve. Vectors are those of `SearchSpace.encode`.

    Minimised are the latency (its tail, where the budget is on that) and whatever else is `wanted` so;
    the accuracy is maximised.
    """

    def __init__(
        self,
        space: SearchSpace,
        latency: Predictor,
        accuracy: Predictor,
        *,
        budget_ms: float,
        confidence: float | None = None,
        budget_on: str = "p50",
        wanted: Sequence[Wanted] = (),
    ) -> None:
        """`wanted` says what is bounded or minimised besides: other devices, sizes."""
        check_budget(budget_ms)
        if confidence is not None and not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be from 0.5 to below 1, got {confidence}")
        if budget_on not in BUDGET_ON:
            raise UsageError(f"a budget is on {' or '.join(BUDGET_ON)}, got '{budget_on}'")
        self.space = space
        self.budget_ms = budget_ms
        self.accuracy = accuracy
        """Who says how good a network is."""
        self._latency = Latency(latency, space, confidence=confidence)
        first = self._latency if budget_on == "p50" else tail_of(self._latency, latency, space, name="p95")
        self._params, self._macs = Size("params", space), Size("macs", space)
        self.wanted = (Wanted(first, budget_ms, minimised=True), *wanted)
        self.bounds = tuple(one for one in self.wanted if one.limit is not None)
        self._costs_ms: dict[Vector, float] = {}
        self.minimised = tuple(one.quantity for one in self.wanted if one.minimised)

    def latency(self, vector: Vector) -> Estimate:
        """The predicted latency of the network on the first device, in ms. Asked twice, computed once."""
        return self._latency.estimate(vector)

    def latencies_ms(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.float64]:
        """The same of many networks, shape (n,), for vectors, shape (n, decisions)."""
        return self._latency.of(vectors)

    def cost_ms(self, vector: Vector) -> float:
        """What is held against the budget: the latency, or its quantile at the wished confidence.

        Where there are several bounds, the one that is used up most, on the scale of the first: at most
        `budget_ms` if and only if all are kept. Raises UsageError when a confidence is wished and a table
        does not know its error.
        """
        cost = self._costs_ms.get(vector)
        if cost is None:
            if len(self._costs_ms) >= CACHED_COSTS:
                self._costs_ms.clear()
            cost = self._costs_ms[vector] = float(self.costs_ms([vector])[0])
        return cost

    def costs_ms(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.float64]:
        """`cost_ms` of many networks, shape (n,)."""
        many = np.asarray(vectors, dtype=np.int64)
        costs = self.bounds[0].quantity.held(many)
        for bound in self.bounds[1:]:
            assert bound.limit is not None
            costs = np.maximum(costs, bound.quantity.held(many) / bound.limit * self.budget_ms)
        return costs

    def fits(self, vector: Vector) -> bool:
        """Whether the network keeps all bounds."""
        return self.cost_ms(vector) <= self.budget_ms

    def fit(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.bool_]:
        """Whether each of many networks does, shape (n,)."""
        return np.asarray(self.costs_ms(vectors) <= self.budget_ms)

    def known_objectives(self, vectors: NDArray[np.int64] | Sequence[Vector]) -> NDArray[np.float64]:
        """What a search minimises and knows beforehand; shape (n, objectives).

        The same numbers as a trial's values without its last, the accuracy.
        """
        return np.stack([quantity.of(vectors) for quantity in self.minimised], axis=1)

    @property
    def is_cheap(self) -> bool:
        """Whether evaluating a network costs less than choosing it with care."""
        return is_cheap(self.accuracy)

    def evaluate(self, vector: Vector) -> Trial:
        """The network with everything that a front needs; asks for its accuracy.

        Raises HwnasError when the network breaks a bound (a sampler's mistake), and what the
        estimator raises.
        """
        self._check([vector])  # before the estimator is troubled
        return self.evaluated([vector], [self.accuracy.predict(self.space.decode(vector))])[0]

    def evaluated(self, vectors: Sequence[Vector], accuracies: Sequence[Estimate]) -> list[Trial]:
        """The networks with everything that a front needs, their accuracies known from elsewhere.

        Raises HwnasError when one breaks a bound.
        """
        self._check(vectors)
        if len(vectors) < FEW:
            ops = [lower(self.space.decode(vector)) for vector in vectors]
            params, macs = [count_params(each) for each in ops], [count_macs(each) for each in ops]
        else:
            params, macs = self._params.of(vectors).tolist(), self._macs.of(vectors).tolist()
        quantities = [one.quantity for one in self.wanted if one.quantity.name not in OF_EVERY_TRIAL]
        columns = [quantity.estimates(vectors) for quantity in quantities]
        return [
            Trial(
                id=self.space.decode(vector).id,
                vector=vector,
                latency=latency,
                accuracy=accuracy,
                params=int(own_params),
                macs=int(own_macs),
                also={one.name: column[row] for one, column in zip(quantities, columns, strict=True)},
            )
            for row, (vector, latency, accuracy, own_params, own_macs) in enumerate(
                zip(vectors, self._latency.estimates(vectors), accuracies, params, macs, strict=True)
            )
        ]

    def _check(self, vectors: Sequence[Vector]) -> None:
        few = len(vectors) < FEW
        worst_ms = max(map(self.cost_ms, vectors) if few else self.costs_ms(vectors).tolist(), default=0.0)
        if worst_ms > self.budget_ms * (1 + ROUNDING):
            raise HwnasError(
                f"only networks within the budget are evaluated, got {worst_ms:.4g} ms "
                f"for a budget of {self.budget_ms:g} ms: the sampler has a mistake"
            )


OF_EVERY_TRIAL = ("latency", "params", "macs")
"""Quantities that a trial has a field for."""


def check_budget(budget_ms: float) -> None:
    """Raises UsageError for what is no budget."""
    if not math.isfinite(budget_ms) or budget_ms <= 0:
        raise UsageError(f"a budget must be a positive number of milliseconds, got {budget_ms}")
