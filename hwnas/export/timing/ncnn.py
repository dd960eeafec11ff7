"""The format "ncnn": layers as text and weights, fp32, for one image, packed in one piece of bytes.

Models are not written with pnnx, ncnn's own converter: it takes seconds for what takes milliseconds here,
and has no windows. Where it has the ops, the layers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.errors import UsageError
from hwnas.export.ncnn.lowering import OPSET
from hwnas.export.ncnn.pack import packed
from hwnas.export.onnx_graph import network_graph, op_graph
from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import deployed_random, deployed_random_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

PRECISIONS = ("fp32",)


def exporter(runtime: str, precision: str) -> Exporter:
    """The exporter for a runtime that reads ncnn's layers, in one of PRECISIONS."""
    return _Ncnn(runtime)


@dataclass(frozen=True, slots=True)
class _Ncnn:
    runtime: str

    def op_model(self, op: OpSpec, *, batch: int = 1) -> bytes:
        """`input` -> `output`. Raises UsageError for a batch other than 1, which ncnn doesn't have."""
        _check_batch(batch)
        return packed(op_graph(deployed_random_op(op, self.runtime, "fp32"), op, opset=OPSET))

    def network_model(self, arch: ArchSpec, *, batch: int = 1) -> bytes:
        """`images` -> `logits`. Raises UsageError for a batch other than 1, which ncnn doesn't have."""
        _check_batch(batch)
        return packed(network_graph(deployed_random(arch, self.runtime, "fp32"), opset=OPSET))


def _check_batch(batch: int) -> None:
    if batch != 1:
        raise UsageError(f"ncnn: batch must be 1, got {batch}: its tensors have no batch dimension")
