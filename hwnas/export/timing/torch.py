"""The format "torch": an exported program (torch.export), which torch alone can load and compile.

TorchScript would load too, but torch.compile does not take it, and it is deprecated.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import randomise, repeat_weights
from hwnas.nn.folding import fold
from hwnas.nn.network import build, build_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = tuple(_DTYPES)


def exporter(precision: str) -> Exporter:
    """The exporter of one of PRECISIONS: weights, input and output are of that type."""
    return _Program(_DTYPES[precision])


@dataclass(frozen=True, slots=True)
class _Program:
    dtype: torch.dtype

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return self._saved(randomise(build_op(op)), (batch, *op.in_shape))

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        return self._saved(randomise(build(arch)), (batch, 3, arch.resolution, arch.resolution))

    @torch.no_grad()
    def _saved(self, module: nn.Module, shape: tuple[int, ...]) -> bytes:
        folded = repeat_weights(fold(module)).to(self.dtype)
        program = torch.export.export(folded, (torch.zeros(shape, dtype=self.dtype),), strict=False)
        stream = io.BytesIO()
        torch.export.save(program, stream)
        return stream.getvalue()
