"""The format "ncnn": layers as text and weights, fp32, for one image, packed in one piece of bytes.

Models are not written with pnnx, ncnn's own converter: it takes seconds for what takes milliseconds here,
and has no windows. Where it has the ops, the layers are the same.
"""

from __future__ import annotations

from hwnas.errors import UsageError
from hwnas.export import graphs as export
from hwnas.export.ncnn.lowering import OPSET
from hwnas.export.ncnn.pack import packed
from hwnas.export.timing import Exporter
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

PRECISIONS = ("fp32",)


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
