"""Tree-structured Parzen estimator (Optuna's, for several objectives), held to the budget."""

from __future__ import annotations

from hwnas.search.problem import Problem
from hwnas.search.samplers._optuna_within_budget import OptunaWithinBudget

__all__ = ["sampler"]


def sampler(problem: Problem, *, seed: int) -> OptunaWithinBudget:
    """Multivariate: all decisions at once, which asks its model once a trial and not once a decision."""
    from optuna.samplers import TPESampler

    return OptunaWithinBudget(
        problem,
        seed=seed,
        make=lambda number: TPESampler(seed=number, multivariate=True),
        attempts=2,
        categorical=True,
    )
