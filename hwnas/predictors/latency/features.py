"""Six numbers of an op that a latency can be linear in; nothing of any board is in here."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hwnas.space.ops import OpSpec

__all__ = [
    "COEFFICIENT_NAMES", "FEATURE_NAMES", "coefficient_features", "features", "op_family", "op_features",
]  # fmt: skip

FEATURE_NAMES = (
    "pointwise_macs",
    "conv_macs",
    "depthwise_macs",
    "activation_bytes",
    "weight_bytes",
    "nodes",
)
"""What the six are: MACs of 1x1 convolutions, matmuls and linear layers; of other dense
convolutions; of depthwise convolutions; bytes of activations read and written; bytes of weights;
executed nodes. One image, four bytes an element."""

COEFFICIENT_NAMES = (*FEATURE_NAMES, "unfused_bytes")
"""What a table's coefficients may be of. The last: bytes that ReLU and the like read and write where a
runtime, such as eager PyTorch, runs them as kernels of their own; others merge them into the convolution."""

_MACS_COLUMN = {"pointwise": 0, "matmul": 0, "linear": 0, "conv": 1, "depthwise": 2}


def op_features(op: OpSpec) -> NDArray[np.float64]:
    """The features of one op, shape (6,), in the order of FEATURE_NAMES.

    They add up: a network's features are the sum of its ops'.
    """
    values = np.zeros(len(FEATURE_NAMES))
    for primitive in op.primitives:
        if primitive.macs:
            values[_MACS_COLUMN.get(primitive.kind, 0)] += primitive.macs
    values[3] = op.activation_bytes()
    values[4] = op.weight_bytes()
    values[5] = op.nodes
    return values


def coefficient_features(op: OpSpec) -> NDArray[np.float64]:
    """The features of one op that coefficients of a table may be of, shape (7,): COEFFICIENT_NAMES."""
    return np.append(op_features(op), op.unfused_bytes())


def op_family(op: OpSpec) -> str:
    """The kind and its settings that are words or yes/no: ops whose latency is one smooth function.

    As `element-wise`, or `element-wise softmax=tokens`.
    """
    words = [f"{name}={value}" for name, value in op.settings if isinstance(value, bool | str)]
    return " ".join([op.kind, *words])


def features(ops: Iterable[OpSpec]) -> dict[str, float]:
    """The features of a network (or of any ops) by name, each the sum over the ops."""
    total = np.sum([op_features(op) for op in ops], axis=0)
    return dict(zip(FEATURE_NAMES, total.tolist(), strict=True))
