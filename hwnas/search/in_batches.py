"""Batches for an estimator that costs nothing: hundreds of networks are chosen at a time, in arrays.

Four fifths of a batch are what a surrogate expects most of, the rest is bred from the best that are
known, as NSGA-II does. Where an evaluation costs less than thinking about the next, thinking must cost
little too: a batch is a sixteenth of what is known, so that some 65 of them make 2,000 networks.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from hwnas.search.breeding import children, parents_of
from hwnas.search.evaluated import Evaluated
from hwnas.search.fastest import fastest
from hwnas.search.moves import Moves
from hwnas.search.problem import Problem, Vector
from hwnas.search.start import START, fair_start
from hwnas.search.surrogate import Settings
from hwnas.search.surrogate_search import SurrogateSearch

__all__ = ["AutoBatches"]

Ints = NDArray[np.int64]

LEAST, MOST = 4, 500
"""Networks of a batch."""
PART = 16
"""A batch is this part of what is known."""
SETTINGS_AGAIN = 2.0
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
            self._moves.random(1 + number // 20, rng), self._fastest, rng, fit=self._problem.fit
        )
        rows = np.concatenate([fresh, born[self._problem.fit(born)]])
        return [tuple(row) for row in rows.tolist()]

    def _settings_at(self, past: Evaluated) -> Settings:
        """The surrogate's settings from the last count at which they are found anew."""
        of = min(START, len(past))
        while (later := max(of + 1, int(of * SETTINGS_AGAIN))) <= len(past):
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
