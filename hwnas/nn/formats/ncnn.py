"""The format "ncnn": layers as text and weights, fp32, for one image, in one piece of bytes.

The piece is a line `hwnas ncnn 1`, a line of JSON {"input", "shape", "output", "param_bytes"}, then
the .param file and the .bin file as ncnn reads them. Models are not written with pnnx, ncnn's own
converter: it takes seconds for what takes milliseconds here, and has no windows. Where it has the ops,
the layers are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnx

from hwnas.errors import UsageError
from hwnas.nn import export
from hwnas.nn.formats import Exporter
from hwnas.nn.ncnn_lowering import OPSET, lower_to_ncnn
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter", "packed", "packed_files"]

PRECISIONS = ("fp32",)

_MAGIC = b"hwnas ncnn 1\n"


def exporter(precision: str) -> Exporter:
    """The exporter of one of PRECISIONS."""
    return _Ncnn()


class _Ncnn:
    def op_model(self, op: OpSpec, *, batch: int = 1) -> bytes:
        """`input` -> `output`. Raises UsageError for a batch other than 1, which ncnn doesn't have."""
        _check_batch(batch)
        return packed(export.op_model(op, batch=1, opset=OPSET))

    def network_model(self, arch: ArchSpec, *, batch: int = 1) -> bytes:
        """`images` -> `logits`. Raises UsageError for a batch other than 1, which ncnn doesn't have."""
        _check_batch(batch)
        return packed(export.network_model(arch, batch=1, opset=OPSET))


def _check_batch(batch: int) -> None:
    if batch != 1:
        raise UsageError(f"ncnn: batch must be 1, got {batch}: its tensors have no batch dimension")


def packed(data: bytes) -> bytes:
    """The piece of bytes for an ONNX model of batch 1, written for `ncnn_lowering.OPSET`."""
    model = onnx.load_from_string(data)
    param, weights = lower_to_ncnn(model).files()
    (source,), (sink,) = model.graph.input, model.graph.output
    shape = [side.dim_value for side in source.type.tensor_type.shape.dim][1:]
    return packed_files(param.encode(), weights, source=source.name, shape=shape, sink=sink.name)


def packed_files(param: bytes, weights: bytes, *, source: str, shape: Sequence[int], sink: str) -> bytes:
    """The piece of bytes for ncnn's two files; `source` takes what has `shape`, `sink` gives the output."""
    header = {"input": source, "shape": list(shape), "output": sink, "param_bytes": len(param)}
    return _MAGIC + json.dumps(header).encode() + b"\n" + param + weights
