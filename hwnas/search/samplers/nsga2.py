"""NSGA-II (Deb et al. 2002), Optuna's, held to the budget."""

from __future__ import annotations

from hwnas.search.problem import Problem
from hwnas.search.samplers._optuna_within_budget import OptunaWithinBudget

__all__ = ["sampler"]


def sampler(problem: Problem, *, seed: int) -> OptunaWithinBudget:
    """Optuna's defaults: population 50, uniform crossover."""
    from optuna.samplers import NSGAIISampler

    return OptunaWithinBudget(problem, seed=seed, make=lambda number: NSGAIISampler(seed=number), attempts=4)
