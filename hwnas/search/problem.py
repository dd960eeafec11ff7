"""Problem: a space, limits that are checked before anything is evaluated, an accuracy estimator.

A latency prediction costs microseconds; an accuracy may cost hours. Samplers therefore check feasibility
as often as they like, and only feasible networks are evaluated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate, Predictor, is_cheap
from hwnas.search.config import Configuration, Target
from hwnas.search.configurations import BoardTables, Fastest, lowered
from hwnas.search.objectives import FEW, Constraint, Energy, Latency, Quantity, Size, Vectors, tail_of
from hwnas.search.trial import Trial
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.types import Bools, Floats, Ints

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
        configurations: Sequence[Configuration] = (),
    ) -> None:
        """`latencies` are the latency predictors of the targets, in their order.

        `configurations` are those of the one target's `BoardTables`, in the order of its tables.

        `limits` and `objectives` name sizes (`params`, `macs`, `memory`), or `energy` on the first target
        in mJ. Raises UsageError for a value out of range, an unknown name, or a table that lacks what
        `budget_on` or the energy needs.
        """
        if confidence is not None and not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be from 0.5 to below 1, got {confidence}")
        if budget_on not in BUDGET_ON:
            raise UsageError(f"--budget-on must be {' or '.join(BUDGET_ON)}, got '{budget_on}'")
        self.space = space
        self.accuracy = accuracy
        self.targets = tuple(targets)
        self.configurations = tuple(configurations)
        """What each network may run in, where there is a choice."""
        self._fastest: Fastest | None = None
        self._params, self._macs = Size("params", space), Size("macs", space)
        quantities: list[Quantity] = []
        constraints: list[Constraint] = []
        for place, (target, predictor) in enumerate(zip(targets, latencies, strict=True)):
            check_budget(target.budget_ms)
            noun = "latency" if budget_on == "p50" else "p95"
            name = noun if place == 0 else f"{noun} {target.device}"
            # The first target's latency is a field of every trial, whatever the budget is on.
            latency: Latency | Fastest
            if isinstance(predictor, BoardTables):
                if budget_on != "p50" or len(targets) > 1:
                    raise UsageError(
                        "several tables of one board are searched with one --device and the median latency: "
                        "give one --device, and leave --budget-on out"
                    )
                latency = Fastest(predictor, space, name=name, confidence=confidence)
                self._fastest = latency
            else:
                own = "latency" if place == 0 else name
                latency = Latency(predictor, space, name=own, confidence=confidence)
            if place == 0:
                self._latency = latency
            quantity: Quantity = latency
            if budget_on == "p95" and isinstance(latency, Latency):
                quantity = tail_of(latency, predictor, space, name=name)
            quantities.append(quantity)
            constraints.append(Constraint(quantity, target.budget_ms))
        limits = limits or {}
        sizes: dict[str, Quantity] = {
            name: Energy(latencies[0], space) if name == "energy" else Size(name, space)
            for name in dict.fromkeys((*limits, *objectives))
        }
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

    def configured(self, vectors: Vectors) -> Iterator[tuple[Ints, Floats, float]]:
        """(rows, latencies in ms, penalty) of the networks within the budget, for each configuration."""
        assert self._fastest is not None
        within = self._fastest.bounds(vectors) <= self.constraints[0].limit
        for one, quantity, fits in zip(self.configurations, self._fastest.each, within, strict=True):
            yield np.flatnonzero(fits), quantity.of(vectors)[fits], one.penalty

    def limit_of(self, quantity: Quantity) -> float | None:
        """The upper limit of a quantity; None without one."""
        return next((one.limit for one in self.constraints if one.quantity is quantity), None)

    @property
    def is_cheap(self) -> bool:
        """Whether evaluating a network costs less than choosing it with care."""
        return is_cheap(self.accuracy)

    def evaluated(
        self,
        vectors: Sequence[Vector],
        accuracies: Sequence[Estimate],
        *,
        ids: Sequence[str] | None = None,
    ) -> list[Trial]:
        """The trials of networks whose accuracies are given, as the estimator says them.

        `ids` are those of the architectures, where they are known. Raises HwnasError when a network
        exceeds a limit.
        """
        self._check(vectors)
        if len(vectors) < FEW:
            ops = [lower(self.space.decode(vector)) for vector in vectors]
            params, macs = [count_params(each) for each in ops], [count_macs(each) for each in ops]
        else:
            params, macs = self._params.of(vectors).tolist(), self._macs.of(vectors).tolist()
        if ids is None:
            ids = [self.space.decode(vector).id for vector in vectors]
        columns = [quantity.estimates(vectors) for quantity in self._recorded]
        trials = [
            Trial(
                id=name,
                vector=vector,
                latency=latency,
                accuracy=accuracy,
                params=int(own_params),
                macs=int(own_macs),
                also={one.name: column[row] for one, column in zip(self._recorded, columns, strict=True)},
            )
            for row, (name, vector, latency, accuracy, own_params, own_macs) in enumerate(
                zip(ids, vectors, self._latency.estimates(vectors), accuracies, params, macs, strict=True)
            )
        ]
        return self._in_the_fastest(trials) if self._fastest and trials else trials

    def _in_the_fastest(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials in their fastest configuration, and their latency in all that are within the budget."""
        assert self._fastest is not None
        vectors = [trial.vector for trial in trials]
        bounds = self._fastest.bounds(vectors)
        columns = [quantity.estimates(vectors) for quantity in self._fastest.each]
        found = []
        for row, (trial, own) in enumerate(zip(trials, bounds.T, strict=True)):
            taken = self.configurations[int(np.argmin(own))]
            latencies = {
                one.latency: column[row]
                for one, column, bound in zip(self.configurations, columns, own, strict=True)
                if bound <= self.constraints[0].limit or one is taken
            }
            found.append(
                dataclasses.replace(
                    trial,
                    accuracy=lowered(trial.accuracy, taken.penalty),
                    also={**trial.also, **latencies},
                    configuration=taken.device,
                )
            )
        return found

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
