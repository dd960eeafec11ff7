"""Sums over the ops of many encoded networks at once: gathered from arrays, no loop over ops.

Or the maximum instead of the sum, which what is held in memory at once needs.

In a search space a network's ops come in groups that depend on few decisions: the stem, each stage's
way in (by the two widths), each block (by its stage's choices and its own), the head. A group's sums
are computed once, through `lower`, and kept in an array that has an axis per decision, and a last one
for what is summed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from hwnas.errors import MissingOpError, SpaceError
from hwnas.space.arch import ArchSpec, Head, Stage, Stem
from hwnas.space.ops import OpSpec, lower
from hwnas.space.search_space import INACTIVE, SearchSpace
from hwnas.types import Floats, Ints

__all__ = ["SpaceIndex"]

OpValues = Callable[[OpSpec], Sequence[float]]

_UNKNOWN = -np.inf  # not computed yet; NaN: computed, an op has no row; +inf: no network has it


class SpaceIndex:
    """The groups of one space, for some numbers of each op; filled as networks ask for them."""

    def __init__(self, space: SearchSpace, values: OpValues, *, combine: np.ufunc = np.add) -> None:
        """`values` gives an op's numbers, none negative and as many for each; raises MissingOpError where
        there are none. `combine` is np.add, or np.maximum for the largest instead of the sum."""
        self.space = space
        self._values = values
        self._combine = combine
        self._groups = _groups_of.setdefault(space, _Groups(space))
        # Filled in by the first networks, when it shows how many numbers an op has.
        self._ends = np.empty(0)
        self._ways_in: list[Floats] = []
        self._blocks: list[Floats] = []

    def sums(self, encoded: Ints) -> Floats:
        """The sums of each network's ops' numbers, shape (n, numbers), for vectors, shape (n, decisions).

        Raises SpaceError for a vector of no network, and MissingOpError as `values` does.
        """
        vectors = self._checked(encoded)
        if not self._blocks:
            if not len(vectors):
                return np.zeros((0, 1))
            self._allocate(len(self._values(self._ops_of(vectors[0])[0])))
        resolution, stride = vectors[:, 0], vectors[:, 1]
        columns = self._stage_columns(vectors)
        first, last = columns[0][0], columns[-1][0]
        self._fill(self._ends, (resolution, stride, first, last), self._groups.ends)
        total = self._ends[resolution, stride, first, last].copy()
        for index, (width, _, ratio, layout, blocks) in enumerate(columns):
            if index:
                before = columns[index - 1][0]
                known = self._ways_in[index - 1]
                place = (resolution, stride, before, width)
                self._fill(known, place, functools.partial(self._groups.way_in, index))
                self._combine(total, known[place], out=total)
            table = self._blocks[index]
            self._fill_blocks(index, (resolution, stride, width, ratio, layout))
            for block in blocks.T:
                self._combine(total, table[resolution, stride, width, ratio, layout, block], out=total)
        self._refuse(vectors, total)
        return total

    def _allocate(self, numbers: int) -> None:
        """Room for all groups, with so many numbers each."""
        space = self.space
        outer = (len(space.resolution), len(space.stem_stride))
        widths = [len(stage.width) for stage in space.stages]
        self._ends = np.full((*outer, widths[0], widths[-1], numbers), _UNKNOWN)
        self._ways_in = [
            np.full((*outer, before, after, numbers), _UNKNOWN)
            for before, after in itertools.pairwise(widths)
        ]
        # One option more than there are, at the end: what INACTIVE (-1) finds, nothing.
        self._blocks = [
            np.full(
                (*outer, len(s.width), len(s.ffn_ratio), len(s.layout), len(s.attention) + 1, numbers),
                _UNKNOWN,
            )
            for s in space.stages
        ]

    def _ops_of(self, vector: Ints) -> tuple[OpSpec, ...]:
        return lower(self.space.decode([int(number) for number in vector]))

    # --- vectors ---

    def _checked(self, encoded: Ints) -> Ints:
        length = len(self.space.decisions)
        if encoded.size == 0:
            return np.empty((0, length), dtype=np.int64)
        if encoded.ndim != 2 or encoded.shape[1] != length:
            raise SpaceError(
                f"vectors of space '{self.space.name}' have shape (n, {length}), got {encoded.shape}"
            )
        limits = np.array([len(decision.choices) for decision in self.space.decisions])
        wrong = (encoded >= limits) | (encoded < INACTIVE)
        start = 2
        for stage in self.space.stages:
            wrong[:, start : start + 4] |= encoded[:, start : start + 4] < 0
            depths = np.array(stage.depth)[np.clip(encoded[:, start + 1], 0, len(stage.depth) - 1)]
            start += 4
            places = np.arange(max(stage.depth))
            active = encoded[:, start : start + len(places)] != INACTIVE
            wrong[:, start : start + len(places)] |= active != (places < depths[:, None])
            start += len(places)
        wrong[:, :2] |= encoded[:, :2] < 0
        bad = wrong.any(axis=1)
        if bad.any():
            self.space.decode([int(number) for number in encoded[int(np.argmax(bad))]])
        return encoded.astype(np.int64, copy=False)

    def _stage_columns(self, vectors: Ints) -> list[tuple[Ints, Ints, Ints, Ints, Ints]]:
        """(width, depth, ffn ratio, layout, blocks) of each stage; blocks has shape (n, depth)."""
        columns = []
        start = 2
        for stage in self.space.stages:
            width, depth, ratio, layout = vectors[:, start : start + 4].T
            start += 4
            blocks = vectors[:, start : start + max(stage.depth)]
            columns.append((width, depth, ratio, layout, blocks))
            start += max(stage.depth)
        return columns

    def _refuse(self, vectors: Ints, total: Floats) -> None:
        """Raises for the first network without a finite answer."""
        finite = np.isfinite(total[:, 0])
        if finite.all():
            return
        for op in self._ops_of(vectors[int(np.argmin(finite))]):
            self._values(op)
        raise AssertionError("the sum of a network is not finite")  # pragma: no cover

    # --- groups ---

    def _fill(self, known: Floats, place: tuple[Ints, ...], compute: Callable[..., Sequence[OpSpec]]) -> None:
        fresh = known[(*place, 0)] == _UNKNOWN
        if not fresh.any():
            return
        for at in np.unique(np.stack([axis[fresh] for axis in place], axis=1), axis=0).tolist():
            known[tuple(at)] = self._sums(compute(*at))

    def _fill_blocks(self, index: int, place: tuple[Ints, ...]) -> None:
        """All attention options of a stage's choices at once: one `lower` gives them all."""
        table, stage = self._blocks[index], self.space.stages[index]
        fresh = table[(*place, -1, 0)] == _UNKNOWN
        if not fresh.any():
            return
        for at in np.unique(np.stack([axis[fresh] for axis in place], axis=1), axis=0).tolist():
            values = np.full((len(stage.attention) + 1, table.shape[-1]), np.inf)
            values[-1] = 0.0
            for number, ops in self._groups.blocks(index, *at).items():
                values[number] = self._sums(ops)
            table[tuple(at)] = values

    def _sums(self, ops: Sequence[OpSpec]) -> Floats | float:
        """The sums over some ops, or NaN where an op has no numbers."""
        try:
            sums: Floats = self._combine.reduce([self._values(op) for op in ops], axis=0)
            return sums
        except MissingOpError:
            return float("nan")


class _Groups:
    """The ops of each group of a space, lowered once for all indexes of it. Arguments are choice numbers."""

    def __init__(self, space: SearchSpace) -> None:
        # Not the space itself, which is the key of the weak dictionary that holds this.
        self._stages, self._classes = space.stages, space.classes
        self._resolution, self._stem_stride = space.resolution, space.stem_stride
        self._ends: dict[tuple[int, ...], Sequence[OpSpec]] = {}
        self._ways_in: dict[tuple[int, ...], Sequence[OpSpec]] = {}
        self._blocks: dict[tuple[int, ...], Mapping[int, Sequence[OpSpec]]] = {}

    def ends(self, *at: int) -> Sequence[OpSpec]:
        """The stem and the head, by resolution, stem stride, first and last width."""
        if at not in self._ends:
            resolution, stride, first, last = at
            ops = lower(self._plain(resolution, stride, {0: first, len(self._stages) - 1: last}))
            self._ends[at] = ops[0], ops[-1]
        return self._ends[at]

    def way_in(self, *at: int) -> Sequence[OpSpec]:
        """What lies between two stages, by the second one's index, resolution, stem stride, both widths."""
        if at not in self._ways_in:
            index, resolution, stride, before, width = at
            ops = lower(self._plain(resolution, stride, {index - 1: before, index: width}))
            self._ways_in[at] = [op for op in ops if op.place.startswith(f"stages.{index}.downsample")]
        return self._ways_in[at]

    def blocks(self, *at: int) -> Mapping[int, Sequence[OpSpec]]:
        """A block's ops by attention option, for stage, resolution, stem stride, width, ratio, layout."""
        if at not in self._blocks:
            index, resolution, stride, width, ratio, layout = at
            stage = self._stages[index]
            channels, name = stage.width[width], stage.layout[layout]
            allowed = stage.allowed(channels, name)
            special = Stage(
                width=channels,
                blocks=tuple(stage.attention[number].fitted(channels) for number in allowed),
                layout=name,
                ffn_ratio=stage.ffn_ratio[ratio],
            )
            by_block: list[list[OpSpec]] = [[] for _ in allowed]
            start = f"stages.{index}.blocks."
            for op in lower(self._plain(resolution, stride, {index: width}, special={index: special})):
                if op.place.startswith(start):
                    by_block[int(op.place[len(start) :].partition(".")[0])].append(op)
            self._blocks[at] = dict(zip(allowed, by_block, strict=True))
        return self._blocks[at]

    def _plain(
        self, resolution: int, stride: int, widths: dict[int, int], special: dict[int, Stage] | None = None
    ) -> ArchSpec:
        """A network with these widths and nothing else of interest."""
        stages = tuple(
            (special or {}).get(index)
            or Stage(width=stage.width[widths.get(index, 0)], blocks=(None,), layout="dw-attention-ffn")
            for index, stage in enumerate(self._stages)
        )
        return ArchSpec(
            stages=stages,
            resolution=self._resolution[resolution],
            stem=Stem(stride=self._stem_stride[stride]),
            head=Head(classes=self._classes),
        )


_groups_of: WeakKeyDictionary[SearchSpace, _Groups] = WeakKeyDictionary()
