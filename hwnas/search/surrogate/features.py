"""Vectors of a space -> numbers in which alike networks are near each other, for a surrogate.

Six groups of columns, from what matters in any objective to what matters in few: the network's size;
the ordered decisions; layouts; shares of the attention types; shares of their options; which option
stands in which block. How much each group counts is for the surrogate to learn.
"""

from __future__ import annotations

import math

import numpy as np

from hwnas.space.op_sums import SpaceIndex
from hwnas.space.ops import OpSpec
from hwnas.space.search_space import INACTIVE, SearchSpace
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

__all__ = ["GROUPS", "Features"]


GROUPS = ("size", "ordered", "layouts", "types", "options", "places")
REFERENCE = 400
"""So many random networks set the scale: two of them are one unit apart in each group."""


class Features:
    """Numbers of the networks of one space, in `groups` of columns.

    Each group is centred, and scaled so that two random networks are a squared distance of 1 apart.
    A group in which the space has no choice is of width 0.
    """

    def __init__(self, space: SearchSpace, moves: Moves) -> None:
        self._space = space
        self._moves = moves
        self._sizes = SpaceIndex(space, _macs_and_params)
        self._ordered = [
            (place, _scaled_logs(decision.choices))
            for place, decision in enumerate(space.decisions)
            if decision.ordinal and len(decision.choices) > 1
        ]
        self._kinds = [_kinds_of(stage.attention) for stage in space.stages]
        self._names = sorted({name for kinds in self._kinds for name in kinds})
        raw = self._raw(moves.random(REFERENCE, np.random.default_rng(0)))
        self._centre = [group.mean(axis=0) for group in raw]
        # Two random networks differ by twice the variance, summed over the columns.
        spread = [math.sqrt(2 * float(group.var(axis=0).sum())) for group in raw]
        self._scale = [1 / value if value > 1e-12 else 0.0 for value in spread]
        ends = np.cumsum([group.shape[1] for group in raw]).tolist()
        self.groups = [slice(end - group.shape[1], end) for end, group in zip(ends, raw, strict=True)]
        """Columns of each of GROUPS."""

    def of(self, vectors: Ints) -> Floats:
        """The numbers of networks, shape (n, columns), for vectors, shape (n, decisions)."""
        groups = zip(self._raw(vectors), self._centre, self._scale, strict=True)
        return np.concatenate([(group - centre) * scale for group, centre, scale in groups], axis=1)

    def _raw(self, vectors: Ints) -> list[Floats]:
        number = len(vectors)
        layouts, types, options, places = [np.zeros((number, 0))], [], [], []
        total = np.zeros((number, len(self._names)))
        blocks_there = np.zeros((number, 1))
        for stage, space, kinds in zip(self._moves.stages, self._space.stages, self._kinds, strict=True):
            if len(space.layout) > 1:
                layouts.append(_one_hot(vectors[:, stage.layout], len(space.layout)))
            blocks = _one_hot(vectors[:, stage.blocks], len(space.attention))  # (n, depth, options)
            there = (vectors[:, stage.blocks] != INACTIVE).sum(axis=1, keepdims=True)
            shares = blocks.sum(axis=1) / there
            by_type = shares @ np.array([[kind == name for name in self._names] for kind in kinds], float)
            total += by_type * there
            blocks_there += there
            options.append(shares)
            types.append(by_type)
            places.append(blocks.reshape(number, blocks.shape[1] * blocks.shape[2]))
        # Shares of the whole network weigh as much as those of all its stages together.
        types.append(math.sqrt(len(types)) * total / blocks_there)
        ordered = [values[vectors[:, place]][:, None] for place, values in self._ordered]
        return [
            np.log(self._sizes.sums(vectors)),
            np.concatenate([np.zeros((number, 0)), *ordered], axis=1),
            np.concatenate(layouts, axis=1),
            np.concatenate(types, axis=1),
            np.concatenate(options, axis=1),
            np.concatenate(places, axis=1),
        ]


def _macs_and_params(op: OpSpec) -> tuple[float, float]:
    return float(op.macs), float(op.params)


def _one_hot(numbers: Ints, count: int) -> Floats:
    """An axis more, with a 1 where the number says; all 0 for INACTIVE."""
    hot: Floats = (numbers[..., None] == np.arange(count)).astype(np.float64)
    return hot


def _scaled_logs(choices: tuple[int, ...]) -> Floats:
    """Logarithms of rising numbers, from 0 to 1."""
    logs = np.log(np.array(choices, dtype=float))
    scaled: Floats = (logs - logs[0]) / (logs[-1] - logs[0])
    return scaled


def _kinds_of(options: tuple[object, ...]) -> list[str]:
    """The attention type of each option."""
    kinds = []
    for option in options:
        attention = getattr(option, "attention", None)
        kinds.append("none" if attention is None else str(attention.type))
    return kinds
