"""Problem: a space, limits that are checked before anything is evaluated, an accuracy estimator.

A latency prediction costs microseconds; an accuracy may cost hours. Samplers therefore check feasibility
as often as they like, and only feasible networks are evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate, Predictor, is_cheap
from hwnas.search.config import Target
from hwnas.search.objectives import FEW, Constraint, Latency, Quantity, Size, Vectors, tail_of
from hwnas.search.trial import Trial
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.types import Bools, Floats

__all__ = ["BUDGET_ON", "Problem", "check_budget"]

BUDGET_ON = ("p50", "p95")
"""What a budget may apply to: the latency, or the 95th percentile of single inferences."""
CACHED_USAGES = 50_000
ROUNDING = 1e-9
"""Relative tolerance: one network and many at once may differ in their last digits."""
OF_EVERY_TRIAL = ("latency", "params", "macs")
"""Quantities that a trial has a field for."""


class Problem:
    """What a search optimises. Vectors are those of `SearchSpace.encode`.

    Minimised are the latency of each target (its tail, with `budget_on` "p95") and the `objectives`;
    the accuracy is maximised.
    """

    def __init__(
        self,
        space: SearchSpace,
        accuracy: Predictor,
        *,
        targets: Sequence[Target],
        latencies: Sequence[Predictor],
        confidence: float | None = None,
        budget_on: str = "p50",
        limits: Mapping[str, float] | None = None,
        objectives: Sequence[str] = (),
    ) -> None:
        """`latencies` are the latency predictors of the targets, in their order.

        `limits` and `objectives` name sizes (`params`, `macs`, `memory`). Raises UsageError for a value
        out of range, an unknown size, or a table that lacks what `budget_on` needs.
        """
        if confidence is not None and not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be from 0.5 to below 1, got {confidence}")
        if budget_on not in BUDGET_ON:
            raise UsageError(f"--budget-on must be {' or '.join(BUDGET_ON)}, got '{budget_on}'")
        self.space = space
        self.accuracy = accuracy
        self.targets = tuple(targets)
        self._params, self._macs = Size("params", space), Size("macs", space)
        quantities: list[Quantity] = []
        constraints: list[Constraint] = []
        for place, (target, predictor) in enumerate(zip(targets, latencies, strict=True)):
            check_budget(target.budget_ms)
            noun = "latency" if budget_on == "p50" else "p95"
            name = noun if place == 0 else f"{noun} {target.device}"
            # The first target's latency is a field of every trial, whatever the budget is on.
            latency = Latency(predictor, space, name="latency" if place == 0 else name, confidence=confidence)
            if place == 0:
                self._latency = latency
            quantity: Quantity = latency
            if budget_on == "p95":
                quantity = tail_of(latency, predictor, space, name=name)
            quantities.append(quantity)
            constraints.append(Constraint(quantity, target.budget_ms))
        limits = limits or {}
        sizes = {name: Size(name, space) for name in dict.fromkeys((*limits, *objectives))}
        for name, limit in limits.items():
            if not 0 < limit < math.inf:
                raise UsageError(f"a limit must be a positive number, got {limit} for {name}")
            constraints.append(Constraint(sizes[name], limit))
        quantities += [sizes[name] for name in objectives]
        self.objectives = tuple(quantities)
        """What is minimised: the latency of each target first."""
        self.constraints = tuple(constraints)
        """The budget of each target first."""
        self._recorded = tuple(
            one for one in dict.fromkeys((*quantities, *sizes.values())) if one.name not in OF_EVERY_TRIAL
        )
        self._usages: dict[Vector, float] = {}

    @classmethod
    def on_device(
        cls,
        space: SearchSpace,
        latency: Predictor,
        accuracy: Predictor,
        *,
        budget_ms: float,
        confidence: float | None = None,
    ) -> Problem:
        """The problem of one device and its latency budget."""
        target = Target(str(getattr(latency, "name", "device")), budget_ms)
        return cls(space, accuracy, targets=[target], latencies=[latency], confidence=confidence)

    def usage(self, vector: Vector) -> float:
        """The largest share of a limit that the network uses; at most 1 where it is feasible.

        Raises UsageError when a confidence is requested and a table does not know its error.
        """
        known = self._usages.get(vector)
        if known is None:
            if len(self._usages) >= CACHED_USAGES:
                self._usages.clear()
            known = self._usages[vector] = float(self.usages([vector])[0])
        return known

    def usages(self, vectors: Vectors) -> Floats:
        """`usage` of many networks, shape (n,)."""
        many = np.asarray(vectors, dtype=np.int64)
        usages = self.constraints[0].usage(many)
        for constraint in self.constraints[1:]:
            usages = np.maximum(usages, constraint.usage(many))
        return usages

    def is_feasible(self, vector: Vector) -> bool:
        """Whether the network is within all limits."""
        return self.usage(vector) <= 1

    def feasible(self, vectors: Vectors) -> Bools:
        """Whether each of many networks is, shape (n,)."""
        return np.asarray(self.usages(vectors) <= 1)

    def known_objectives(self, vectors: Vectors) -> Floats:
        """What a search minimises and knows without an evaluation; shape (n, objectives).

        The same numbers as a trial's values without its last, the accuracy.
        """
        return np.stack([quantity.of(vectors) for quantity in self.objectives], axis=1)

    def latencies_ms(self, vectors: Vectors) -> Floats:
        """The first target's latency of many networks, shape (n,), as `Trial.latency` holds it."""
        return self._latency.of(vectors)

    def limit_of(self, quantity: Quantity) -> float | None:
        """The upper limit of a quantity; None without one."""
        return next((one.limit for one in self.constraints if one.quantity is quantity), None)

    @property
    def is_cheap(self) -> bool:
        """Whether evaluating a network costs less than choosing it with care."""
        return is_cheap(self.accuracy)

    def evaluated(self, vectors: Sequence[Vector], accuracies: Sequence[Estimate]) -> list[Trial]:
        """The trials of networks whose accuracies are given.

        Raises HwnasError when a network exceeds a limit.
        """
        self._check(vectors)
        if len(vectors) < FEW:
            ops = [lower(self.space.decode(vector)) for vector in vectors]
            params, macs = [count_params(each) for each in ops], [count_macs(each) for each in ops]
        else:
            params, macs = self._params.of(vectors).tolist(), self._macs.of(vectors).tolist()
        columns = [quantity.estimates(vectors) for quantity in self._recorded]
        return [
            Trial(
                id=self.space.decode(vector).id,
                vector=vector,
                latency=latency,
                accuracy=accuracy,
                params=int(own_params),
                macs=int(own_macs),
                also={one.name: column[row] for one, column in zip(self._recorded, columns, strict=True)},
            )
            for row, (vector, latency, accuracy, own_params, own_macs) in enumerate(
                zip(vectors, self._latency.estimates(vectors), accuracies, params, macs, strict=True)
            )
        ]

    def _check(self, vectors: Sequence[Vector]) -> None:
        few = len(vectors) < FEW
        worst = max(map(self.usage, vectors) if few else self.usages(vectors).tolist(), default=0.0)
        if worst > 1 + ROUNDING:
            raise HwnasError(
                f"only networks within the budget are evaluated, got one that uses {worst:.4g} of a limit: "
                "internal error of the sampler"
            )


def check_budget(budget_ms: float) -> None:
    """Raises UsageError for what is no budget."""
    if not math.isfinite(budget_ms) or budget_ms <= 0:
        raise UsageError(f"a budget must be a positive number of milliseconds, got {budget_ms}")
