"""Random weights for networks that are only timed: nothing is zero, nothing overflows."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.export.deployment_graph import formed, formed_op
from hwnas.nn.conv_norm import ConvNorm
from hwnas.nn.folding import fold
from hwnas.nn.network import Network, build, build_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = [
    "PERIOD",
    "deployed_random",
    "deployed_random_op",
    "randomise",
    "repeat_initialisers",
    "repeat_weights",
    "repeated",
]

Module = TypeVar("Module", bound=nn.Module)


def deployed_random(arch: ArchSpec, runtime: str, precision: str) -> Network:
    """A network to be timed: the runtime's deployment graph, with weights that nobody trained."""
    return formed(repeat_weights(fold(randomise(build(arch)))), runtime, precision)


def deployed_random_op(op: OpSpec, runtime: str, precision: str) -> nn.Module:
    """One op to be timed, as it is in `deployed_random`."""
    return formed_op(repeat_weights(fold(randomise(build_op(op)))), op.kind, runtime, precision)


@torch.no_grad()
def randomise(module: Module, *, seed: int = 0) -> Module:
    """Fills every weight and running statistic of `module`, in place, and returns it.

    A fresh network is the identity in most blocks: BatchNorm's weight and alpha start at 0. A
    runtime could skip such a branch, and products of zeros and denormals take another time than
    those of numbers. So the weights here are of a trained network's size: a convolution before
    BatchNorm keeps the variance, and what a branch adds at its end is a tenth to a third.
    """
    random = torch.Generator().manual_seed(seed)
    normalised = {id(part.conv) for part in module.modules() if isinstance(part, ConvNorm)}
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            ends_branch = bool((part.weight == 0).all())
            low, high = (0.1, 0.3) if ends_branch else (0.5, 1.5)
            part.weight.uniform_(low, high, generator=random)
            part.bias.uniform_(-0.2, 0.2, generator=random)
            part.running_mean.uniform_(-0.2, 0.2, generator=random)
            part.running_var.uniform_(0.5, 1.5, generator=random)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            gain = 1.0 if id(part) in normalised else 0.1
            bound = math.sqrt(3 * gain / math.prod(part.weight.shape[1:]))
            part.weight.uniform_(-bound, bound, generator=random)
            if part.bias is not None:
                part.bias.uniform_(-0.2, 0.2, generator=random)
        elif not isinstance(part, nn.GroupNorm):
            for weight in part.parameters(recurse=False):  # bias tables, alpha
                weight.uniform_(0.1, 0.9, generator=random)
    return module


# --- weights that compress well: each large one repeats 251 of its own values -----------------
# Deflated, such a model is a hundredth of its size, while random weights do not get smaller at all. Where it
# is timed it is as large as before, and its numbers are of the same size as before: a runtime has as much to
# read and to compute. Weights that anybody trained are never touched.


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
