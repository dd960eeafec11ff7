"""Random networks within the budget: what any other sampler must beat."""

from __future__ import annotations

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.problem import Problem
from hwnas.search.samplers._proposing import ProposingSampler
from hwnas.space.search_space import Vector

__all__ = ["RandomNetworks", "sampler"]

ATTEMPTS = 6


def sampler(problem: Problem, *, seed: int) -> RandomNetworks:
    """Each decision uniform among the choices that fit those before it."""
    return RandomNetworks(problem, seed=seed)


class RandomNetworks(ProposingSampler):
    """Draws until a network is within the budget; the last of too many draws is shrunk until it is."""

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> Vector:
        drawn = self.moves.random(ATTEMPTS, rng)
        within = np.flatnonzero(self.problem.feasible(drawn))
        return self._row(drawn[within[:1]] if len(within) else drawn)
