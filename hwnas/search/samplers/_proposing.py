"""ProposingSampler: an Optuna sampler that proposes whole networks within the budget, each once.

Optuna sees one parameter per decision of the space, always the same ones in the same ranges
(ranges that depend on other parameters break its NSGA-II); what a decision means where it is idle
follows `moves.filled`. What a sampler proposes is a function of its seed and of the finished trials,
so a study that is rebuilt from a record goes on as the one that wrote it.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.search.fastest import fastest
from hwnas.search.moves import filled, neighbour, shrunk
from hwnas.search.problem import Problem, Vector
from hwnas.space.search_space import SearchSpace

__all__ = ["ProposingSampler", "distributions", "params_of", "vector_of"]

ATTEMPTS_TO_BE_NEW = 60


def distributions(space: SearchSpace, *, categorical: bool = False) -> dict[str, BaseDistribution]:
    """Optuna's ranges: the number of the choice, for each decision that has more than one.

    With `categorical`, unordered decisions are categories to Optuna: a sampler that models distances
    needs that; the others don't, and Optuna handles whole numbers twice as fast.
    """
    ranges: dict[str, BaseDistribution] = {}
    for decision in space.decisions:
        count = len(decision.choices)
        if count > 1 and categorical and not decision.ordinal:
            ranges[decision.name] = CategoricalDistribution(tuple(range(count)))
        elif count > 1:
            ranges[decision.name] = IntDistribution(0, count - 1)
    return ranges


def params_of(space: SearchSpace, vector: Vector) -> dict[str, int]:
    """Optuna's parameters of a network."""
    named = zip(space.decisions, filled(space, vector), strict=True)
    return {decision.name: value for decision, value in named if len(decision.choices) > 1}


def vector_of(space: SearchSpace, params: Mapping[str, Any]) -> Vector:
    """The network that Optuna's parameters mean, or the nearest one."""
    return space.repair([int(params.get(decision.name, 0)) for decision in space.decisions])


class ProposingSampler(BaseSampler, abc.ABC):
    """Proposes new networks within the budget; a subclass says which.

    The study minimises latency (ms) and maximises the lower bound of accuracy, in this order.
    """

    def __init__(self, problem: Problem, *, seed: int, categorical: bool = False) -> None:
        self.problem = problem
        self.seed = seed
        self.known: dict[Vector, tuple[float, float]] = {}
        """(latency in ms, lower bound of accuracy) of each finished trial, in their order."""
        self.ranges = distributions(problem.space, categorical=categorical)
        """What a study with this sampler asks for: `study.ask(sampler.ranges)`."""
        self._fastest: Vector | None = None
        self._is_new = True
        self._repeats = 0

    @abc.abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Vector:
        """A network worth evaluating; may be known, or over the budget: that is mended afterwards."""

    @property
    def fastest(self) -> Vector:
        """The fastest network of the space."""
        if self._fastest is None:
            self._fastest = fastest(self.problem)
        return self._fastest

    def mended(self, vector: Vector, rng: random.Random) -> Vector:
        """A network near `vector` that fits the budget and is not known.

        A known one comes back when none is found: then the space holds few others, or none.
        """
        space, fits = self.problem.space, self.problem.fits
        near = vector
        for attempt in range(ATTEMPTS_TO_BE_NEW):
            if not fits(near):
                near = shrunk(space, near, self.fastest, rng, fits=fits)
            if near not in self.known:
                return near
            near = neighbour(space, near if attempt % 8 else vector, rng, changes=1 + attempt // 20)
        return near if fits(near) else self.fastest

    # --- what Optuna calls ---

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.ranges

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._is_new:
            self._is_new = False
            for past in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                self._learn(past)
        rng = random.Random(f"{self.seed}/{len(self.known)}/{self._repeats}")
        self._repeats += 1
        vector = self.mended(self.propose(study, trial, rng), rng)
        return params_of(self.problem.space, vector)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # A parameter that is none of the space's: the objective asked for it on its own account.
        own = RandomSampler(seed=random.Random(f"{self.seed}/{trial.number}/{param_name}").getrandbits(32))
        return own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        if state == TrialState.COMPLETE and values is not None and not self._is_new:
            self._repeats = 0
            self.known[vector_of(self.problem.space, trial.params)] = (values[0], values[1])

    def _learn(self, trial: FrozenTrial) -> None:
        latency_ms, score = trial.values
        self.known[vector_of(self.problem.space, trial.params)] = (latency_ms, score)
