"""Moves in a search space on many vectors at once: neighbours, children of two, the way to a donor.

Vectors are rows of arrays, shape (n, decisions). Every row that comes out is the vector of a network.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from hwnas.space.search_space import INACTIVE, SearchSpace, Vector
from hwnas.types import Bools, Ints

__all__ = ["Moves", "filled"]


FAR_STEP = 0.2
"""Share of an ordinal decision's steps that are of two choices."""


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


class _Stage:
    """Where a stage stands in a vector, and which of its attentions fit where."""

    def __init__(self, space: SearchSpace, index: int, start: int) -> None:
        choices = space.stages[index]
        self.part = slice(start, start + 4 + max(choices.depth))
        self.width, self.depth, self.layout = start, start + 1, start + 3
        self.blocks = slice(start + 4, self.part.stop)
        self.depths = np.array(choices.depth)
        shape = (len(choices.width), len(choices.layout), len(choices.attention))
        self.allowed = np.zeros(shape, dtype=bool)
        """By width, layout and attention."""
        self.next_allowed = np.zeros(shape, dtype=np.int64)
        """The attention itself where it fits, the next in order that does, or the first of all."""
        for width, channels in enumerate(choices.width):
            for layout, name in enumerate(choices.layout):
                fitting = choices.allowed(channels, name)
                self.allowed[width, layout, list(fitting)] = True
                self.next_allowed[width, layout] = [
                    next((option for option in fitting if option >= wanted), fitting[0])
                    for wanted in range(shape[2])
                ]

    def active(self, vectors: Ints) -> Bools:
        """Which blocks there are, shape (n, greatest depth)."""
        places = np.arange(self.blocks.stop - self.blocks.start)
        there: Bools = places < self.depths[vectors[:, self.depth]][:, None]
        return there

    def any_attention(self, vectors: Ints, rng: np.random.Generator) -> Ints:
        """A random one that fits each row, shape (n, 1)."""
        allowed = self.allowed[vectors[:, self.width], vectors[:, self.layout]]
        drawn: Ints = np.argmax(rng.random(allowed.shape) * allowed, axis=1)
        return drawn[:, None]


class Moves:
    """What can be done with vectors of one space. `vectors` are (n, decisions) of networks throughout."""

    def __init__(self, space: SearchSpace) -> None:
        self.counts = np.array([len(decision.choices) for decision in space.decisions])
        """Choices of each decision."""
        self.ordinal = np.array([decision.ordinal for decision in space.decisions])
        self.stages: list[_Stage] = []
        start = 2
        for index in range(len(space.stages)):
            self.stages.append(_Stage(space, index, start))
            start = self.stages[-1].part.stop
        self.parts = [slice(0, 1), slice(1, 2), *(stage.part for stage in self.stages)]
        """What a child inherits whole: a stage, or a decision outside stages."""

    def repaired(self, vectors: Ints, rng: np.random.Generator | None = None) -> Ints:
        """The networks' vectors nearest to any rows: `SearchSpace.repair` of each.

        With `rng`, an attention that does not fit gives way to a random one that does, not to the next.
        """
        result = np.clip(vectors, 0, self.counts - 1)
        for stage in self.stages:
            widths, layouts = result[:, stage.width], result[:, stage.layout]
            blocks = result[:, stage.blocks]
            if rng is None:
                fitting = stage.next_allowed[widths[:, None], layouts[:, None], blocks]
            else:
                allowed = stage.allowed[widths, layouts]  # (n, attentions)
                drawn = np.argmax(rng.random((*blocks.shape, allowed.shape[1])) * allowed[:, None, :], axis=2)
                fits = np.take_along_axis(allowed, blocks, axis=1)
                fitting = np.where(fits, blocks, drawn)
            result[:, stage.blocks] = np.where(stage.active(result), fitting, INACTIVE)
        return result

    def filled(self, vectors: Ints) -> Ints:
        """Each inactive block as a copy of the block before it; see the function `filled`."""
        result = vectors.copy()
        for stage in self.stages:
            last = stage.depths[vectors[:, stage.depth]] - 1
            ends = np.take_along_axis(vectors[:, stage.blocks], last[:, None], axis=1)
            result[:, stage.blocks] = np.where(stage.active(vectors), vectors[:, stage.blocks], ends)
        return result

    def random(self, number: int, rng: np.random.Generator, *, even: bool = False) -> Ints:
        """Networks with each decision uniform among the choices that fit those before it.

        With `even`, all blocks of a stage have one attention: the stages differ more from each other.
        """
        drawn = rng.integers(0, self.counts, size=(number, len(self.counts)))
        for stage in self.stages:
            allowed = stage.allowed[drawn[:, stage.width], drawn[:, stage.layout]]
            each = 1 if even else stage.blocks.stop - stage.blocks.start
            shape = (number, each, allowed.shape[1])
            drawn[:, stage.blocks] = np.argmax(rng.random(shape) * allowed[:, None, :], axis=2)
        return self.repaired(drawn)

    def every(self, number: int) -> Iterator[Ints]:
        """All networks of the space, in pieces of at most `number` rows."""
        parts = [np.arange(count)[:, None] for count in self.counts[:2]]
        parts += [np.concatenate(list(self._variants(stage))) for stage in self.stages]
        shape = tuple(map(len, parts))
        size = int(np.prod(shape))
        for start in range(0, size, number):
            places = np.unravel_index(np.arange(start, min(start + number, size)), shape)
            yield np.hstack([part[rows] for part, rows in zip(parts, places, strict=True)])

    def _variants(self, stage: _Stage) -> Iterator[Ints]:
        """Every stage there may be, shape (n, places of a stage), in pieces."""
        widths, ratios, layouts = self.counts[[stage.width, stage.depth + 1, stage.layout]]
        places = stage.blocks.stop - stage.blocks.start
        for width, depth, ratio, layout in np.ndindex(widths, len(stage.depths), ratios, layouts):
            fitting = np.flatnonzero(stage.allowed[width, layout]).tolist()
            blocks = list(itertools.product(fitting, repeat=int(stage.depths[depth])))
            piece = np.full((len(blocks), 4 + places), INACTIVE)
            piece[:, :4] = width, depth, ratio, layout
            piece[:, 4 : 4 + stage.depths[depth]] = blocks
            yield piece

    def neighbours(self, vectors: Ints, rng: np.random.Generator, *, changes: int | Ints = 1) -> Ints:
        """Vectors `changes` decisions away, before what no longer fits gives way to what does.

        An ordinal decision mostly moves by one, a categorical one anywhere. `changes` is one number,
        or one for each row. A row is as before when nothing could move.
        """
        movable = (vectors != INACTIVE) & (self.counts > 1)
        keys = np.where(movable, rng.random(vectors.shape), np.inf)
        wanted = np.minimum(np.broadcast_to(changes, len(vectors)), vectors.shape[1])
        first = np.partition(keys, np.arange(max(int(wanted.max(initial=1)), 1)), axis=1)
        last = np.take_along_axis(first, np.maximum(wanted - 1, 0)[:, None], axis=1)
        chosen = movable & (keys <= last) & (wanted > 0)[:, None]
        now = self.filled(vectors)
        far = 1 + (rng.random(now.shape) < FAR_STEP)
        step = np.where(rng.random(now.shape) < 0.5, -far, far)
        there = now + step
        inside = (there >= 0) & (there < self.counts)
        stepped = np.where(inside, there, np.clip(now - step, 0, self.counts - 1))
        jumped = (now + rng.integers(1, np.maximum(self.counts, 2), size=now.shape)) % self.counts
        return self.repaired(np.where(chosen, np.where(self.ordinal, stepped, jumped), now), rng)

    def retyped(self, vectors: Ints, rng: np.random.Generator) -> Ints:
        """Vectors with one attention in all blocks of each stage, any that fits, and all else as it was."""
        result = vectors.copy()
        for stage in self.stages:
            result[:, stage.blocks] = np.where(
                stage.active(result), stage.any_attention(result, rng), result[:, stage.blocks]
            )
        return result

    def evened(self, vectors: Ints, rng: np.random.Generator) -> Ints:
        """Vectors with one attention in all blocks of one random stage; any that fits there."""
        result = vectors.copy()
        which = rng.integers(0, len(self.stages), size=len(vectors))
        for index, stage in enumerate(self.stages):
            there = (which == index)[:, None] & stage.active(result)
            result[:, stage.blocks] = np.where(
                there, stage.any_attention(result, rng), result[:, stage.blocks]
            )
        return result

    def children(self, a: Ints, b: Ints, rng: np.random.Generator) -> Ints:
        """Row by row, each whole stage and each decision outside stages from one of the two."""
        result = a.copy()
        for part in self.parts:
            others = rng.random(len(a)) < 0.5
            result[others, part] = b[others, part]
        return result

    def shrunk(
        self, vectors: Ints, donor: Vector, rng: np.random.Generator, *, feasible: Callable[[Ints], Bools]
    ) -> Ints:
        """Vectors that fit, on the way from each to a donor that does: with as little of it as needed.

        Decisions are taken over from the donor in a random order; how many are needed is found by
        bisection, so latency need not fall with each of them. `feasible` says which rows of some fit; it
        is asked about all rows each time.
        """
        length = vectors.shape[1]
        place = np.argsort(rng.random(vectors.shape), axis=1)  # when each decision is taken over
        starts = self.filled(vectors)
        end = self.filled(np.array([donor], dtype=np.int64))
        low = np.zeros(len(vectors), dtype=np.int64)  # so many do not suffice, but `high` do
        high = np.full(len(vectors), length)
        found = np.repeat(np.array([donor], dtype=np.int64), len(vectors), axis=0)
        done = feasible(vectors)
        found[done] = vectors[done]
        high[done] = 0
        while (open_rows := high - low > 1).any():
            middle = (low + high) // 2
            tried = self.repaired(np.where(place < middle[:, None], end, starts))
            fits = feasible(tried) & open_rows
            found[fits] = tried[fits]
            high = np.where(fits, middle, high)
            low = np.where(open_rows & ~fits, middle, low)
        return found
