"""ArchSpec -> the numbers that `learned` learns from: size, shape, attention, where the work is done.

To what `published` sees of a network (`_published_features`) come its estimate itself, because what
holds on ImageNet mostly holds elsewhere, and how the MACs are spread over the kinds of ops.
"""

from __future__ import annotations

import math

import numpy as np

from hwnas.predictors.accuracy import published
from hwnas.predictors.accuracy._published_features import FEATURES, SpaceDescriber, describe
from hwnas.space.arch import ATTENTIONS, ArchSpec
from hwnas.space.op_sums import SpaceIndex
from hwnas.space.ops import OpSpec, lower
from hwnas.space.search_space import SearchSpace
from hwnas.types import Floats, Ints

__all__ = ["NAMES", "SHAPE", "SpaceLearner", "learned_features"]

PARTS = ("stem", "dw", "ffn", "merge", "attention", "head")
"""What an op belongs to; kinds of the EleViT design count with the part they stand for."""
FOREIGN = {"conv-pool-stem": "stem", "conv-pool": "merge", "conv-ffn": "ffn", "dual-head": "head"}

NAMES: tuple[str, ...] = (
    *(feature.name for feature in FEATURES if feature.name != "one"),
    "published",
    *(f"macs of {part}" for part in PARTS),
    "activations",
    "ops",
    "first width",
    "middle width",
    "last width",
)

SHAPE: tuple[int, ...] = tuple(
    NAMES.index(name) for name in ("macs", "depth", "first width", "middle width", "last width")
)
"""The places of the few numbers that say how a network spends its MACs: on width or on depth, and where."""


def learned_features(arch: ArchSpec) -> Floats:
    """The numbers of one network, in the order of NAMES, each of the order of 1."""
    sums = np.sum([_op_numbers(op) for op in lower(arch)], axis=0)
    numbers: Floats = _features(
        describe(arch)[None],
        100 - np.array([published.estimator().predict(arch).value]),
        sums[None],
        np.array([[float(stage.width) for stage in arch.stages]]),
    )[0]
    return numbers


class SpaceLearner:
    """`learned_features` of many networks of one space at once."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._describer = SpaceDescriber(space)
        self._sums = SpaceIndex(space, _op_numbers)

    def features(self, vectors: Ints) -> Floats:
        """The numbers of networks, shape (n, len(NAMES)), for vectors, shape (n, decisions)."""
        if not len(vectors):
            return np.zeros((0, len(NAMES)))
        described = self._describer.describe(vectors)
        return _features(
            described,
            100 - published.estimator().values(described)[0],
            self._sums.sums(vectors),
            self._describer.widths(vectors),
        )


def _op_numbers(op: OpSpec) -> tuple[float, ...]:
    """What one op adds to a network: MACs by PARTS, activations, 1 for the op."""
    part = "attention" if op.kind in ATTENTIONS else FOREIGN.get(op.kind, op.kind)
    activations = sum(
        math.prod(primitive.shape) for primitive in op.primitives if primitive.kind in ("relu", "gelu")
    )
    return *(float(op.macs) * (part == each) for each in PARTS), float(activations), 1.0


def _features(described: Floats, errors_percent: Floats, sums: Floats, widths: Floats) -> Floats:
    """The numbers of networks, (n, len(NAMES)).

    From `describe` (n, features), published errors (n,), sums of `_op_numbers` and widths (n, stages).
    """
    middle = widths[:, 1:-1] if widths.shape[1] > 2 else widths
    used = [place for place, feature in enumerate(FEATURES) if feature.name != "one"]
    return np.column_stack(
        [
            described[:, used],
            np.log(errors_percent / published.REFERENCE_ERROR_PERCENT),
            np.log1p(sums[:, : len(PARTS)] / 1e6),
            np.log(sums[:, len(PARTS)] / 1e6),
            np.log(sums[:, -1]),
            np.log(widths[:, 0] / 128),
            np.log(middle / 192).mean(axis=1),
            np.log(widths[:, -1] / 256),
        ]
    )
