"""NSGA-II (Deb et al. 2002), Optuna's, held to the budget."""

from __future__ import annotations

from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.problem import Problem
from hwnas.search.samplers._optuna_within_budget import OptunaWithinBudget

__all__ = ["sampler"]


def sampler(problem: Problem, *, seed: int) -> OptunaWithinBudget:
    """Optuna's defaults: population 50, uniform crossover."""
    return OptunaWithinBudget(problem, seed=seed, make=lambda number: _Ordered(seed=number), attempts=4)


class _Ordered(NSGAIISampler):
    """Parents always in the order of their trials.

    Optuna gives them by rank when a generation is new and by trial later on; so a study that is
    rebuilt in the middle of a generation would draw others.
    """

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        parents: list[FrozenTrial] = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)
