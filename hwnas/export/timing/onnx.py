"""The format "onnx": fp32 as it is exported, int8 quantised after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwnas.export import graphs as export
from hwnas.export.quantise import quantise, quantise_op
from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import repeat_initialisers
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

PRECISIONS = ("fp32", "int8", "fp16")
"""`fp16` is the fp32 model: the runtimes that compute in it round the model themselves."""


def exporter(precision: str) -> Exporter:
    """The exporter of one of PRECISIONS."""
    return _Int8() if precision == "int8" else _Float()


@dataclass(frozen=True, slots=True)
class _Float:
    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return export.op_model(op, batch=batch)

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        return export.network_model(arch, batch=batch)


@dataclass(frozen=True, slots=True)
class _Int8:
    """Calibrated on random inputs: weights are random too, and what counts here is the time."""

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        model = export.op_model(op, batch=batch)
        first, last = len(op.in_shape) == 3 and op.in_shape[0] == 3, len(op.out_shape) == 1
        return repeat_initialisers(quantise_op(model, [_random(batch, op.in_shape)], first=first, last=last))

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        images = _random(batch, (3, arch.resolution, arch.resolution))
        return repeat_initialisers(quantise(export.network_model(arch, batch=batch), [images]))


def _random(batch: int, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
