"""The numbers that the golden fixtures are filled with: a function of a weight's name and shape.

The rule is written down in golden/README.md. It depends on no library's random numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MASK = 2**64 - 1


def uniform(key: str, count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1): splitmix64, seeded with the FNV-1a hash of `key`."""
    seed = 0xCBF29CE484222325
    for byte in key.encode():
        seed = (seed ^ byte) * 0x100000001B3 & _MASK
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53


def weight(key: str, shape: Sequence[int]) -> NDArray[np.float64] | NDArray[np.int64]:
    """The state-dict entry `key`, by the rule."""
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    u = uniform(key, math.prod(shape)).reshape(shape)
    if leaf in ("running_var", "focusing_factor") or (leaf == "weight" and len(shape) == 1):
        return 0.5 + u
    if leaf in ("running_mean", "bias"):
        return 0.4 * u - 0.2
    if leaf == "attention_biases":
        return 2 * u - 1
    assert leaf == "weight", key
    return (2 * u - 1) * math.sqrt(3 * _gain(key, shape) / math.prod(shape[1:]))


def _gain(key: str, shape: Sequence[int]) -> float:
    if "pw2" in key or "pwconv2" in key or re.search(r"\.proj\.\d", key):
        return 0.1
    if len(shape) == 4 and shape[1] == 1:
        return 0.25
    return 1.0 if "qk" in key else 2.0


def images(batch: int, side: int) -> NDArray[np.float64]:
    """The input: (batch, 3, side, side)."""
    return 4 * uniform("input", batch * 3 * side * side).reshape(batch, 3, side, side) - 2


def signs(count: int) -> NDArray[np.float64]:
    """What the checksums are weighted with, from -1 to 1."""
    return 2 * uniform("checksum", count) - 1
