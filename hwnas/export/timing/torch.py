"""The format "torch": an exported program (torch.export), which torch alone can load and compile.

TorchScript would load too, but torch.compile does not take it, and it is deprecated.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import deployed_random, deployed_random_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = tuple(_DTYPES)


def exporter(runtime: str, precision: str) -> Exporter:
    """The exporter for torch in one of PRECISIONS: weights, input and output are of that type."""
    return _Program(runtime, precision)


@dataclass(frozen=True, slots=True)
class _Program:
    runtime: str
    precision: str

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return self._saved(deployed_random_op(op, self.runtime, self.precision), (batch, *op.in_shape))

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        network = deployed_random(arch, self.runtime, self.precision)
        return self._saved(network, (batch, 3, arch.resolution, arch.resolution))

    @torch.no_grad()
    def _saved(self, module: nn.Module, shape: tuple[int, ...]) -> bytes:
        dtype = _DTYPES[self.precision]
        program = torch.export.export(module.to(dtype), (torch.zeros(shape, dtype=dtype),), strict=False)
        stream = io.BytesIO()
        torch.export.save(program, stream)
        return stream.getvalue()
