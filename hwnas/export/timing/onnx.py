"""The format "onnx": fp32 as it is exported, int8 quantised after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwnas.export.onnx_graph import network_graph, op_graph
from hwnas.export.quantise import quantise, quantise_op
from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import deployed_random, deployed_random_op, repeat_initialisers
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

PRECISIONS = ("fp32", "int8", "fp16")
"""`fp16` is the fp32 model: the runtimes that compute in it round the model themselves."""


def exporter(runtime: str, precision: str) -> Exporter:
    """The exporter for a runtime that reads ONNX, in one of PRECISIONS."""
    return _Int8(runtime) if precision == "int8" else _Float(runtime, precision)


@dataclass(frozen=True, slots=True)
class _Float:
    runtime: str
    precision: str

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return op_graph(deployed_random_op(op, self.runtime, self.precision), op, batch=batch)

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        return network_graph(deployed_random(arch, self.runtime, self.precision), batch=batch)


@dataclass(frozen=True, slots=True)
class _Int8:
    """Calibrated on random inputs: weights are random too, and what counts here is the time."""

    runtime: str

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        model = op_graph(deployed_random_op(op, self.runtime, "int8"), op, batch=batch)
        first, last = len(op.in_shape) == 3 and op.in_shape[0] == 3, len(op.out_shape) == 1
        return repeat_initialisers(quantise_op(model, [_random(batch, op.in_shape)], first=first, last=last))

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        model = network_graph(deployed_random(arch, self.runtime, "int8"), batch=batch)
        images = _random(batch, (3, arch.resolution, arch.resolution))
        return repeat_initialisers(quantise(model, [images]))


def _random(batch: int, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
