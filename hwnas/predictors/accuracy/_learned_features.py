"""ArchSpec -> the numbers that `learned` learns from: size, shape, attention, where the work is done.

To what `published` sees of a network (`_published_features`) come its estimate itself, because what
holds on ImageNet mostly holds elsewhere, and how the MACs are spread over the kinds of ops.
"""

from __future__ import annotations

import math
import statistics

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.accuracy import published
from hwnas.predictors.accuracy._published_features import FEATURES, describe
from hwnas.space.arch import ATTENTIONS, ArchSpec
from hwnas.space.ops import lower

__all__ = ["NAMES", "SHAPE", "learned_features"]

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


def learned_features(arch: ArchSpec) -> NDArray[np.float64]:
    """The numbers of one network, in the order of NAMES, each of the order of 1."""
    macs = dict.fromkeys(PARTS, 0)
    activations = count = 0
    for op in lower(arch):
        part = "attention" if op.kind in ATTENTIONS else FOREIGN.get(op.kind, op.kind)
        macs[part] += op.macs
        count += 1
        activations += sum(
            math.prod(primitive.shape) for primitive in op.primitives if primitive.kind in ("relu", "gelu")
        )
    described = [
        number for feature, number in zip(FEATURES, describe(arch), strict=True) if feature.name != "one"
    ]
    widths = [stage.width for stage in arch.stages]
    error = 100 - published.estimator().predict(arch).value
    return np.array(
        [
            *described,
            math.log(error / published.REFERENCE_ERROR_PERCENT),
            *(math.log1p(macs[part] / 1e6) for part in PARTS),
            math.log(activations / 1e6),
            math.log(count),
            math.log(widths[0] / 128),
            statistics.fmean(math.log(width / 192) for width in widths[1:-1] or widths),
            math.log(widths[-1] / 256),
        ]
    )
