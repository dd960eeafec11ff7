"""Model formats: what runtimes take. `hwnas/nn/formats/<name>.py` *is* the format <name>.

A format's file has `PRECISIONS` and `exporter(precision) -> Exporter`; a runtime names the format it
takes in its `MODEL_FORMAT`.
"""

from __future__ import annotations

from typing import Protocol

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["Exporter", "exporter"]


class Exporter(Protocol):
    """Makes models to be timed, with BatchNorm folded and random weights that deflate well.

    An op's model does what the op does within a network of the same format and precision.
    """

    def op_model(self, op: OpSpec, *, batch: int) -> bytes: ...

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes: ...


def exporter(model_format: str, precision: str) -> Exporter:
    """The exporter to a format in a precision; raises UsageError when there is none."""
    module = plugins.load("export/timing", model_format)
    if precision not in module.PRECISIONS:
        raise UsageError(
            f"the format '{model_format}' is exported in {', '.join(module.PRECISIONS)}, got '{precision}'"
        )
    found: Exporter = module.exporter(precision)
    return found
