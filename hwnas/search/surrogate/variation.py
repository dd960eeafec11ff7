"""Breeding: children of networks that are alike in latency, and the networks worth being parents.

What both ways of searching share: the one that judges children with a surrogate before any is
evaluated, and the one that has them all evaluated because an evaluation costs nothing.
"""

from __future__ import annotations

import numpy as np

from hwnas.search import pareto
from hwnas.search.surrogate.history import Evaluated
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

__all__ = ["children", "parents_of"]


CROSSED, EVENED = 0.5, 0.1
"""Shares of the bred that have two parents, and that get one attention in a whole stage."""


def children(moves: Moves, parents: Ints, known: Floats, number: int, rng: np.random.Generator) -> Ints:
    """So many children of parents that are alike in the first known objective, shape (number, decisions).

    `known` is (n, objectives) for the parents. Children may be over a budget, and may be known.
    """
    order = np.argsort(known[:, 0], kind="stable")
    first = rng.integers(0, len(order), size=number)
    away = np.rint(rng.normal(0, 1 + len(order) / 10, size=number)).astype(np.int64)
    second = np.clip(first + away, 0, len(order) - 1)
    a, b = parents[order[first]], parents[order[second]]
    born = np.where((rng.random(number) < CROSSED)[:, None], moves.children(a, b, rng), a)
    even = rng.random(number) < EVENED
    born[even] = moves.evened(born[even], rng)
    alike = (born == a).all(axis=1) | (born == b).all(axis=1)
    changes = np.where(alike | (rng.random(number) < 0.5), rng.choice([1, 1, 2, 3], size=number), 0)
    return moves.neighbours(born, rng, changes=changes)


def parents_of(past: Evaluated, number: int) -> Ints:
    """Rows of the best `number` networks: rank by rank, and of the last rank the least crowded.

    As NSGA-II chooses survivors (Deb et al. 2002, section III-B and C).
    """
    points = np.column_stack([past.known, -past.scores])
    chosen: list[int] = []
    for rank in pareto.ranks(points, at_least=number):
        left = number - len(chosen)
        if len(rank) > left:
            rows = np.array(rank)
            rank = rows[np.argsort(-_room(points[rows]), kind="stable")[:left]].tolist()
        chosen += rank
    return np.array(chosen, dtype=np.int64)


def _room(points: Floats) -> Floats:
    """How far apart each point's neighbours are, summed over the objectives; infinite at the ends."""
    room = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        sorted_column = column[order]
        width = sorted_column[-1] - sorted_column[0]
        apart = np.full(len(points), np.inf)
        apart[1:-1] = (sorted_column[2:] - sorted_column[:-2]) / width if width > 0 else 0.0
        room[order] += apart
    return room
