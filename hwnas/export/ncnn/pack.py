"""ncnn's two files in one piece of bytes, as the runtime `ncnn` takes them.

The piece is a line `hwnas ncnn 1`, a line of JSON {"input", "shape", "output", "param_bytes"}, then
the .param file and the .bin file as ncnn reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnx

from hwnas.export.ncnn.lowering import lower_to_ncnn

__all__ = ["packed", "packed_files"]

_MAGIC = b"hwnas ncnn 1\n"


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
