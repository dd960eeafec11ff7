"""Networks and ops as ONNX graphs: `images` -> `logits`, `input` -> `output`, all weights inside."""

from __future__ import annotations

from typing import Literal

import onnx
import torch
from torch import nn

from hwnas.export.onnx_writer import MIN_OPSET, record
from hwnas.nn.folding import fold
from hwnas.nn.network import Network
from hwnas.space.ops import OpSpec

__all__ = ["OPSET", "Batch", "network_graph", "op_graph", "reference_graph"]

OPSET = MIN_OPSET
"""The default: what ONNX Runtime 1.12 (2022) and later run, and so boards that are not up to date."""

Batch = int | Literal["dynamic"]


def network_graph(network: Network, *, batch: Batch = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of a network without BatchNorm: folded, or `deployment_graph.deployed`."""
    side = network.arch.resolution
    model, _ = record(
        network.cpu(),
        torch.zeros(1 if batch == "dynamic" else batch, 3, side, side),
        input_name="images",
        output_name="logits",
        places={op.place: op.place for op in network.ops},
        dynamic_batch=batch == "dynamic",
        opset=opset,
    )
    return _serialised(model)


def op_graph(module: nn.Module, op: OpSpec, *, batch: int = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of the folded or deployed module of one op: the nodes a network has for it.

    Takes some milliseconds.
    """
    example = torch.zeros(batch, *op.in_shape)
    model, _ = record(module, example, input_name="input", output_name="output", opset=opset)
    return _serialised(model)


def reference_graph(network: Network, *, batch: Batch = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of a network with the nodes that `hwnas.space.ops` lists; nothing times it."""
    return network_graph(fold(network), batch=batch, opset=opset)


def _serialised(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data
