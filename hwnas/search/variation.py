"""Variation: children of networks that are alike in latency, and the networks worth being parents."""

from __future__ import annotations

import numpy as np

from hwnas.search import pareto
from hwnas.search.history import Evaluated
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

__all__ = ["children", "parents_of"]


CROSSED, EVENED = 0.5, 0.1
"""Shares of the children that have two parents, and that get one attention in a whole stage."""


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
    """Rows of the best `number` networks; see `pareto.survivors`."""
    return pareto.survivors(np.column_stack([past.known, -past.scores]), number)
