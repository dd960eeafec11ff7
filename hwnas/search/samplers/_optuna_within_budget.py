"""Optuna's own samplers, held to the budget: what they propose is asked again or mended, not wasted."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.problem import Problem
from hwnas.search.samplers._proposing import ProposingSampler, vector_of
from hwnas.space.search_space import Vector

__all__ = ["OptunaWithinBudget"]


class OptunaWithinBudget(ProposingSampler):
    """Asks another sampler until a new network within the budget comes, then takes the last and repairs it.

    `make(seed)` builds the other sampler; one is built for each trial, so that a resumed study needs
    no generator's state. A sampler that keeps its own notes in trials (as NSGA-II its generations)
    finds them there.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        make: Callable[[int], BaseSampler],
        attempts: int,
        categorical: bool = False,
    ) -> None:
        super().__init__(problem, seed=seed, categorical=categorical)
        self._make = make
        self._attempts = attempts

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> Vector:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            inner = self._make(int(rng.integers(2**32)))
        for _ in range(self._attempts):
            params = inner.sample_relative(study, trial, self.ranges)
            for name, distribution in self.ranges.items():
                if name not in params:
                    params[name] = inner.sample_independent(study, trial, name, distribution)
            vector = vector_of(self.problem.space, params)
            if not self.is_taken(vector) and self.problem.is_feasible(vector):
                break
        return vector
