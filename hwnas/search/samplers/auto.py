"""The default sampler: learns from each evaluation, and proposes nothing over the budget.

Latency is known before anything is evaluated and accuracy is dear. So a surrogate learns accuracy from
what was evaluated, thousands of networks within the budget are bred and judged by it, and those are
proposed that are expected to add most to the front (`hwnas.search.surrogate_search`). The start is
fair: the presets within the budget, the fastest network, and random ones, all spread over latency.

A surrogate pays where evaluations are few. The more there are, the more are proposed at a time: at
20,000 the surrogate costs less than a cheap estimator does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.problem import Problem, Vector
from hwnas.search.samplers._proposing import ProposingSampler
from hwnas.search.surrogate import Settings
from hwnas.search.surrogate_gain import halton
from hwnas.search.surrogate_search import Evaluated, SurrogateSearch
from hwnas.space.presets import preset, preset_names

__all__ = ["AutoSampler", "sampler"]

START = 24
"""Networks before the surrogate is first asked."""
PRESETS = 8
"""At most so many of them are presets."""
AT_A_TIME = 25
"""A batch is this part of what is known: at 100 evaluations, 4 networks."""
MANY, AT_A_TIME_THEN = 500, 4
"""From so many evaluations on, the part is larger."""
SETTINGS_AGAIN = 1.2
"""The surrogate's settings are found anew each time so many times more are known."""


def sampler(problem: Problem, *, seed: int) -> AutoSampler:
    """The sampler for a search that names none."""
    return AutoSampler(problem, seed=seed)


class AutoSampler(ProposingSampler):
    """A start that is spread over latency, then batches of what a surrogate expects most of.

    A batch is made from the evaluations up to a count that depends on how many there are alone, so
    that it can be made again when a run is taken up in its middle.
    """

    def __init__(self, problem: Problem, *, seed: int) -> None:
        super().__init__(problem, seed=seed)
        self._start: list[Vector] | None = None
        self._search: SurrogateSearch | None = None
        self._settings: tuple[int, Settings] | None = None
        self._batch: tuple[int, int, list[Vector]] = (-1, 0, [])
        """From how many evaluations, how often from as many, and what is left of it."""

    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> Vector:
        if self._start is None:
            self._start = list(self._fair_start())
        if len(self.known) < len(self._start):
            for vector in self._start:
                if not self.is_taken(vector):
                    return vector
        if len(self.known) < 2:
            return self._random_network(float(rng.random()), rng)
        return self._next_of_batch()

    # --- the start ---

    def _fair_start(self) -> Iterator[Vector]:
        """Presets, the fastest network and random ones, each kind spread over latency."""
        rng = np.random.default_rng([self.seed % 2**63, START])
        chosen = dict.fromkeys(self._presets_within_budget())
        chosen[self.fastest] = None
        yield from chosen
        for share in halton(START - len(chosen), 1)[:, 0]:
            yield self._random_network(float(share), rng)

    def _presets_within_budget(self) -> list[Vector]:
        """At most `PRESETS` of them, from the fastest to the slowest."""
        space = self.problem.space
        archs = [preset(name).adapted(classes=space.classes) for name in preset_names()]
        vectors = dict.fromkeys(space.encode(arch) for arch in archs if space.contains(arch))
        within = sorted(filter(self.problem.fits, vectors), key=self.problem.cost_ms)
        spread = np.linspace(0, len(within) - 1, min(PRESETS, len(within))).astype(int)
        return [within[place] for place in spread]

    def _random_network(self, share: float, rng: np.random.Generator) -> Vector:
        """A random network, shrunk until its latency is below `share` of the way up to the budget."""
        problem = self.problem
        least_ms = problem.cost_ms(self.fastest)
        limit_ms = least_ms + share * (problem.budget_ms - least_ms)

        def fit(vectors: NDArray[np.int64]) -> NDArray[np.bool_]:
            return problem.fit(vectors) & (problem.latencies_ms(vectors) <= limit_ms)

        return self._row(self.moves.shrunk(self.moves.random(1, rng), self.fastest, rng, fit=fit))

    # --- batches ---

    def _next_of_batch(self) -> Vector:
        count = _batch_start(len(self.known), START)
        made_from, times, left = self._batch
        if made_from != count:
            made_from, times, left = count, 0, self._make_batch(count, 0)
        while True:
            while left:
                vector = left.pop(0)
                if not self.is_taken(vector):
                    self._batch = (made_from, times, left)
                    return vector
            # More workers than a batch has networks, or some that could not be evaluated.
            times += 1
            left = self._make_batch(count, times)
            if not any(not self.is_taken(vector) for vector in left):
                self._batch = (made_from, times, [])
                return self.fastest  # mended to what is left of the space

    def _make_batch(self, count: int, times: int) -> list[Vector]:
        """What to evaluate next, given the first `count` evaluations; `times` tells several such apart."""
        if self._search is None:
            self._search = SurrogateSearch(self.problem, self.moves, fastest=self.fastest)
        past = self._past(count)
        rng = np.random.default_rng([self.seed % 2**63, count, times])
        number = _batch_size(count)
        waiting = [vector for vector in self.pending if vector not in self.known]
        found = self._search.batch(past, self._settings_at(count), number, rng, pending=waiting)
        return [tuple(row) for row in found.tolist()]

    def _settings_at(self, count: int) -> Settings:
        """The surrogate's settings from the last count at which they are found anew."""
        assert self._search is not None
        of = min(START, count)
        while (later := max(of + 1, int(of * SETTINGS_AGAIN))) <= count:
            of = later
        if self._settings is None or self._settings[0] != of:
            self._settings = (of, self._search.settings(self._past(of)))
        return self._settings[1]

    def _past(self, count: int) -> Evaluated:
        """The first evaluations."""
        vectors = list(self.known)[:count]
        values = np.array([self.known[vector] for vector in vectors])
        deviations = np.array([self.deviations[vector] for vector in vectors])
        return Evaluated(np.array(vectors, dtype=np.int64), values[:, :-1], values[:, -1], deviations)


def _batch_size(count: int) -> int:
    return max(1, count // (AT_A_TIME if count < MANY else AT_A_TIME_THEN))


def _batch_start(count: int, start: int) -> int:
    """The largest number of evaluations up to `count` from which a batch is made."""
    if count <= start:
        return count
    while (after := start + _batch_size(start)) <= count:
        start = after
    return start
