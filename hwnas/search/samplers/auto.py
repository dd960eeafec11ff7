"""The default sampler: evolves the front, stage by stage, and proposes nothing over the budget.

Latency is known before anything is evaluated, so crossover and mutation are repeated until the
child fits, and the start is spread over latency instead of over the space, most of which is too
slow for a tight budget.
"""

from __future__ import annotations

import random

from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search import pareto
from hwnas.search.moves import child, neighbour, shrunk
from hwnas.search.problem import Problem, Vector
from hwnas.search.samplers._proposing import ProposingSampler
from hwnas.space.presets import preset, preset_names

__all__ = ["AutoSampler", "sampler"]

SPREAD = 40
"""Random networks at the start, spread over latency up to the budget."""
PARENTS = 60
"""At least so many of the best ranks are parents."""
GENERATION = 25
"""Parents are chosen anew after so many trials."""
CROSSED = 0.5
"""Share of children of two parents; the rest has one."""
SPREAD_LATER = 0.05
"""Share of random networks after the start."""


def sampler(problem: Problem, *, seed: int) -> AutoSampler:
    """The sampler for a search that names none."""
    return AutoSampler(problem, seed=seed)


class AutoSampler(ProposingSampler):
    """Presets first, then random networks spread over latency, then children of the best."""

    def __init__(self, problem: Problem, *, seed: int) -> None:
        super().__init__(problem, seed=seed)
        self._presets: list[Vector] | None = None
        self._parents: tuple[int, list[Vector]] = (-1, [])

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Vector:
        if self._presets is None:
            self._presets = self._presets_within_budget()
        number = len(self.known)
        if number < len(self._presets):
            return self._presets[number]
        number -= len(self._presets)
        if number < SPREAD or rng.random() < SPREAD_LATER:
            share = _van_der_corput(number + 1) if number < SPREAD else rng.random()
            return self._random_network(share, rng)
        return self._child(rng)

    def _presets_within_budget(self) -> list[Vector]:
        space = self.problem.space
        archs = [preset(name).adapted(classes=space.classes) for name in preset_names()]
        vectors = [space.encode(arch) for arch in archs if space.contains(arch)]
        return [vector for vector in dict.fromkeys(vectors) if self.problem.fits(vector)]

    def _random_network(self, share: float, rng: random.Random) -> Vector:
        """A random network, shrunk until its latency is below `share` of the way up to the budget."""
        problem = self.problem
        least = problem.cost_ms(self.fastest)
        limit = least + share * (problem.budget_ms - least)
        return shrunk(
            problem.space,
            problem.space.encode(problem.space.sample(rng)),
            self.fastest,
            rng,
            fits=lambda vector: problem.cost_ms(vector) <= limit or vector == self.fastest,
        )

    def _child(self, rng: random.Random) -> Vector:
        """A child of parents that stand near a random latency; drawn again while it is too slow."""
        problem, parents = self.problem, self._current_parents()
        for _ in range(6):
            # Uniform in latency, not in parents: crowded parts of the front get no more than others.
            place = rng.uniform(self.known[parents[0]][0], self.known[parents[-1]][0])
            near = sorted(parents, key=lambda vector: abs(self.known[vector][0] - place))[:8]
            first = rng.choice(near[:4])
            if rng.random() < CROSSED and len(near) > 1:
                vector = child(problem.space, first, rng.choice(near), rng)
                if vector in self.known:
                    vector = neighbour(problem.space, vector, rng)
            else:
                vector = neighbour(problem.space, first, rng, changes=rng.choice((1, 1, 2, 3)))
            if vector not in self.known and problem.fits(vector):
                return vector
        return shrunk(problem.space, vector, first, rng, fits=problem.fits)

    def _current_parents(self) -> list[Vector]:
        """The best ranks of what was known at the last whole generation, by latency."""
        counted = len(self.known) - len(self.known) % GENERATION
        if self._parents[0] != counted:
            vectors = list(self.known)[:counted] or list(self.known)
            points = [(self.known[vector][0], -self.known[vector][1]) for vector in vectors]
            chosen = [index for rank in pareto.ranks(points, at_least=PARENTS) for index in rank]
            chosen.sort(key=lambda index: points[index])
            self._parents = (counted, [vectors[index] for index in chosen])
        return self._parents[1]


def _van_der_corput(number: int) -> float:
    """1/2, 1/4, 3/4, 1/8, ...: any first few are spread over (0, 1)."""
    share, weight = 0.0, 0.5
    while number:
        number, bit = divmod(number, 2)
        share += bit * weight
        weight /= 2
    return share
