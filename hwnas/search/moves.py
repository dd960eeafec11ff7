"""Small steps in a search space, on vectors: the neighbour, the child of two, the way to a donor.

They do what `SearchSpace.mutate` and `cross` do for architectures, without leaving the vectors.
Every result is the vector of a network of the space.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

from hwnas.search.problem import Vector
from hwnas.space.search_space import INACTIVE, SearchSpace

__all__ = ["child", "filled", "neighbour", "shrunk", "stage_slices"]


@lru_cache(maxsize=16)
def stage_slices(names: tuple[str, ...]) -> tuple[slice, ...]:
    """Where the decisions of one stage stand in a vector; a decision outside stages stands alone."""
    owners = [".".join(name.split(".")[:2]) for name in names]
    starts = [index for index, owner in enumerate(owners) if index == 0 or owner != owners[index - 1]]
    return tuple(slice(a, b) for a, b in zip(starts, [*starts[1:], len(names)], strict=True))


def filled(space: SearchSpace, vector: Vector) -> Vector:
    """The vector with each inactive block as a copy of the block before it.

    So a vector has a number within range in every place, and a stage that grows goes on as it ends.
    """
    values = list(vector)
    for place, value in enumerate(values):
        if value == INACTIVE:
            same_kind = place and space.decisions[place].choices == space.decisions[place - 1].choices
            values[place] = values[place - 1] if same_kind else 0
    return tuple(values)


def neighbour(space: SearchSpace, vector: Vector, rng: random.Random, *, changes: int = 1) -> Vector:
    """A vector `changes` decisions away, before what no longer fits gives way to what does.

    An ordinal decision mostly moves by one, a categorical one anywhere. Equal to `vector` when
    nothing could move.
    """
    decisions = space.decisions
    movable = [
        place for place, value in enumerate(vector) if value != INACTIVE and len(decisions[place].choices) > 1
    ]
    moved = list(filled(space, vector))
    for place in rng.sample(movable, min(changes, len(movable))):
        choices = len(decisions[place].choices)
        if decisions[place].ordinal:
            step = rng.choice((-1, 1)) * (1 if rng.random() < 0.8 else 2)
            target = moved[place] + step
            moved[place] = target if 0 <= target < choices else max(0, min(choices - 1, moved[place] - step))
        else:
            moved[place] = (moved[place] + rng.randrange(1, choices)) % choices
    return space.repair(moved)


def child(space: SearchSpace, a: Vector, b: Vector, rng: random.Random) -> Vector:
    """Each whole stage, and each decision outside stages, from one of the two."""
    values: list[int] = []
    for part in stage_slices(tuple(decision.name for decision in space.decisions)):
        values += rng.choice((a, b))[part]
    return space.repair(values)


def shrunk(
    space: SearchSpace,
    vector: Vector,
    donor: Vector,
    rng: random.Random,
    *,
    fits: Callable[[Vector], bool],
) -> Vector:
    """A vector that fits, on the way from `vector` to a donor that does: with as little of it as needed.

    Decisions are taken over from the donor in a random order; how many are needed is found by
    bisection, so latency need not fall with each of them.
    """
    order = list(range(len(vector)))
    rng.shuffle(order)
    start, end = filled(space, vector), filled(space, donor)

    def taken(count: int) -> Vector:
        values = list(start)
        for place in order[:count]:
            values[place] = end[place]
        return space.repair(values)

    low, high = 0, len(order)  # taken(high) fits, taken(low) does not
    found = donor
    if fits(taken(0)):
        return taken(0)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(candidate := taken(middle)):
            high, found = middle, candidate
        else:
            low = middle
    return found
