"""The format "litert": .tflite files, fp32. Converting takes seconds a model, so a table takes an hour."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas import plugins
from hwnas.export.litert import network_model, op_model
from hwnas.export.timing import Exporter
from hwnas.export.timing.random_weights import deployed_random, deployed_random_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["PRECISIONS", "exporter"]

PRECISIONS = ("fp32",)


def exporter(runtime: str, precision: str) -> Exporter:
    """The exporter for a runtime that reads .tflite; raises MissingPackageError without litert-torch."""
    plugins.require("litert_torch", extra="litert")
    return _Litert(runtime)


@dataclass(frozen=True, slots=True)
class _Litert:
    runtime: str

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return op_model(deployed_random_op(op, self.runtime, "fp32"), op, batch=batch)

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        return network_model(deployed_random(arch, self.runtime, "fp32"), batch=batch)
