"""The default sampler: learns from each evaluation, and proposes nothing over the budget.

Latency is known before anything is evaluated and accuracy is dear. So a surrogate learns accuracy from
what was evaluated, thousands of networks within the budget are bred and judged by it, and those are
proposed that are expected to add most to the front (`hwnas.search.surrogate.proposer`), after a fair
start (`hwnas.search.initial`).

A surrogate pays where an evaluation costs more than it does. An estimator that says it is cheap is
asked about a batch at a time (`AutoBatches`); one that answers in arrays needs no sampler at all
(`hwnas.search.evolution`).
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from hwnas.search.feasibility import fastest
from hwnas.search.history import Evaluated
from hwnas.search.initial import START, fair_start, random_network
from hwnas.search.problem import Problem
from hwnas.search.samplers._proposing import ProposingSampler
from hwnas.search.surrogate.gp import Settings
from hwnas.search.surrogate.proposer import SurrogateSearch
from hwnas.search.variation import children, parents_of
from hwnas.space.search_space import Vector
from hwnas.space.vectors import Moves
from hwnas.types import Ints

__all__ = [
    "AutoBatches",
    "AutoSampler",
    "batches",
    "sampler",
]


# --- batches for cheap estimators ------------------------------------------------------------


# Four fifths of a batch are what a surrogate expects most of, the rest is bred from the best that are
# known, as NSGA-II does. Where an evaluation costs less than thinking about the next, thinking must cost
# little too: a batch is a sixteenth of what is known, so that some 65 of them make 2,000 networks.


LEAST, MOST = 4, 500
"""Networks of a batch."""
PART = 16
"""A batch is this part of what is known."""
SETTINGS_AGAIN_IN_BATCHES = 2.0
"""The surrogate's settings are found anew each time so many times more are known."""
JUDGED = 0.8
"""Share of a batch that the surrogate chooses."""
PARENTS = 60
TRIES = 25
"""So many broods without a new network mean that the space is exhausted."""


class AutoBatches:
    """What to evaluate next, given all evaluations so far.

    A batch is made from the evaluations up to a count that depends on how many there are alone: a
    search that was interrupted in the middle of a batch goes on with the rest of it.
    """

    def __init__(self, problem: Problem, *, seed: int) -> None:
        self._problem = problem
        self._moves = Moves(problem.space)
        self._seed = seed % 2**63
        self._fastest = fastest(problem)
        self._start = tuple(dict.fromkeys(fair_start(problem, self._moves, self._fastest, seed=seed)))
        self._search = SurrogateSearch(problem, self._moves, fastest=self._fastest)
        self._settings: tuple[int, Settings] | None = None
        self._known: set[Vector] = set()
        """The vectors of the first so many evaluations."""
        self._learnt = 0

    def next(self, past: Evaluated) -> Ints:
        """New networks within the budget, shape (n, decisions); none when the space has no more.

        `past` is all that was evaluated, in the order of evaluation.
        """
        known = self._learn(past)
        left = [vector for vector in self._start if vector not in known]
        if left and len(past) < len(self._start):
            return np.array(left, dtype=np.int64)
        begun = min(batch_start(len(past), len(self._start)), len(past))
        since = past.vectors[begun:].tolist()
        made = self._made(past[:begun], known.difference(map(tuple, since)) if since else known)
        new = [vector for vector in map(tuple, made.tolist()) if vector not in known]
        if new or begun == len(past):
            return np.array(new, dtype=np.int64).reshape(len(new), made.shape[1])
        return self._made(past, known)

    def _learn(self, past: Evaluated) -> set[Vector]:
        """The vectors of all evaluations."""
        if len(past) < self._learnt:
            self._known, self._learnt = set(), 0
        self._known.update(map(tuple, past.vectors[self._learnt :].tolist()))
        self._learnt = len(past)
        return self._known

    def _made(self, past: Evaluated, taken: Set[Vector]) -> Ints:
        """The batch that follows these evaluations, whose vectors are `taken`."""
        rng = np.random.default_rng([self._seed, len(past)])
        number = batch_size(len(past))
        chosen: dict[Vector, None] = {}
        if len(past) >= 2:
            judged = self._search.batch(
                past, self._settings_at(past), round(JUDGED * number), rng, taken=taken
            )
            chosen.update(dict.fromkeys(map(tuple, judged.tolist())))
        parents = past[parents_of(past, PARENTS)]
        for _ in range(TRIES):
            if len(chosen) >= number:
                break
            new = [vector for vector in self._brood(parents, number, rng) if vector not in taken]
            chosen.update(dict.fromkeys(new[: number - len(chosen)]))
        rows = list(chosen)[:number]
        return np.array(rows, dtype=np.int64).reshape(len(rows), past.vectors.shape[1])

    def _brood(self, parents: Evaluated, number: int, rng: np.random.Generator) -> list[Vector]:
        """Children within the budget, and a few random networks shrunk until they are."""
        born = children(self._moves, parents.vectors, parents.known, 3 * number, rng)
        fresh = self._moves.shrunk(
            self._moves.random(1 + number // 20, rng), self._fastest, rng, feasible=self._problem.feasible
        )
        rows = np.concatenate([fresh, born[self._problem.feasible(born)]])
        return [tuple(row) for row in rows.tolist()]

    def _settings_at(self, past: Evaluated) -> Settings:
        """The surrogate's settings from the last count at which they are found anew."""
        of = min(START, len(past))
        while (later := max(of + 1, int(of * SETTINGS_AGAIN_IN_BATCHES))) <= len(past):
            of = later
        if self._settings is None or self._settings[0] != of:
            self._settings = (of, self._search.settings(past[:of]))
        return self._settings[1]


def batch_size(count: int) -> int:
    """How many networks follow so many evaluations."""
    return min(max(LEAST, count // PART), MOST)


def batch_start(count: int, start: int) -> int:
    """The largest number of evaluations up to `count` from which a batch is made."""
    while (after := start + batch_size(start)) <= count:
        start = after
    return start


# --- one by one, for expensive estimators -----------------------------------------------------

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
