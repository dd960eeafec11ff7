"""The default sampler: learns from each evaluation, and proposes nothing over the budget.

Latency is known before anything is evaluated and accuracy is dear. So a surrogate learns accuracy from
what was evaluated, thousands of networks within the budget are bred and judged by it, and those are
proposed that are expected to add most to the front (`hwnas.search.surrogate_search`), after a fair
start (`hwnas.search.start`).

A surrogate pays where an evaluation costs more than it does. An estimator that says it is cheap is
asked about a batch at a time (`hwnas.search.in_batches`).
"""

from __future__ import annotations

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.evaluated import Evaluated
from hwnas.search.in_batches import AutoBatches
from hwnas.search.problem import Problem, Vector
from hwnas.search.samplers._proposing import ProposingSampler
from hwnas.search.start import START, fair_start, random_network
from hwnas.search.surrogate import Settings
from hwnas.search.surrogate_search import SurrogateSearch

__all__ = ["AutoSampler", "batches", "sampler"]

AT_A_TIME = 25
"""A batch is this part of what is known: at 100 evaluations, 4 networks."""
MANY, AT_A_TIME_THEN = 500, 4
"""From so many evaluations on, the part is larger."""
SETTINGS_AGAIN = 1.2
"""The surrogate's settings are found anew each time so many times more are known."""


def sampler(problem: Problem, *, seed: int) -> AutoSampler:
    """The sampler for a search that names none."""
    return AutoSampler(problem, seed=seed)


def batches(problem: Problem, *, seed: int) -> AutoBatches:
    """What an engine asks instead when evaluations are cheap."""
    return AutoBatches(problem, seed=seed)


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
            self._start = list(fair_start(self.problem, self.moves, self.fastest, seed=self.seed))
        if len(self.known) < len(self._start):
            for vector in self._start:
                if not self.is_taken(vector):
                    return vector
        if len(self.known) < 2:
            return random_network(self.problem, self.moves, self.fastest, float(rng.random()), rng)
        return self._next_of_batch()

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
        since = [*list(self.known)[count:], *(one for one in self.pending if one not in self.known)]
        waiting = since if self.ahead is None else since[: self.ahead]
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
