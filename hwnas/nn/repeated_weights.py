"""Weights of networks that are only timed, made to travel: each large one repeats 251 values of its own.

Deflated, such a model is a hundredth of its size, while random weights do not get smaller at all. Where it
is timed it is as large as before, and its numbers are of the same size as before: a runtime has as much to
read and to compute. Weights that anybody trained are never touched.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["PERIOD", "repeat_initialisers", "repeat_weights", "repeated"]

Module = TypeVar("Module", bound=nn.Module)

PERIOD = 251
"""A prime, so that neighbouring rows of a matrix differ whatever its width is. They take 1 kB in each weight,
and networks have hundreds of weights; deflate looks back 32 kB."""


@torch.no_grad()
def repeat_weights(module: Module) -> Module:
    """Changes every floating point weight of more than PERIOD values, in place, and returns the module.

    For modules that are folded already: folding scales each row by another factor.
    """
    for weight in [*module.parameters(), *module.buffers()]:
        if weight.is_floating_point() and weight.numel() > PERIOD:
            weight.copy_(torch.from_numpy(repeated(weight.numpy())))
    return module


def repeat_initialisers(model: bytes) -> bytes:
    """The ONNX model with every large int8 weight changed: quantising scales each row by another factor."""
    import onnx
    from onnx import numpy_helper

    parsed = onnx.load_model_from_string(model)
    for weight in parsed.graph.initializer:
        if weight.data_type == onnx.TensorProto.INT8:
            array = numpy_helper.to_array(weight)
            if array.size > PERIOD:
                weight.CopyFrom(numpy_helper.from_array(repeated(array), weight.name))
    return bytes(parsed.SerializeToString(deterministic=True))


def repeated(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """An array of the same shape and type that repeats PERIOD of its values, from all over it."""
    chosen = values.reshape(-1)[:: values.size // PERIOD][:PERIOD]
    return np.resize(chosen, values.shape)
