"""Models that are timed: `hwnas/export/timing/<name>.py` makes those of the model format <name>.

A format's file has `PRECISIONS` and `exporter(runtime, precision) -> Exporter`; a runtime names the format
that it takes in its `MODEL_FORMAT`. All models have the runtime's deployment graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = ["Exporter", "exporter", "one_thread"]


class Exporter(Protocol):
    """Makes models to be timed, in a runtime's deployment graph, with random weights that deflate well.

    A network's graph is the graphs of its ops one after the other.
    """

    def op_model(self, op: OpSpec, *, batch: int) -> bytes: ...

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes: ...


def exporter(runtime: str, precision: str) -> Exporter:
    """What makes the models that a runtime is timed with in a precision.

    Raises UsageError for an unknown runtime, and for a precision that its model format does not have.
    """
    model_format = plugins.load("runtimes", runtime).MODEL_FORMAT
    module = plugins.load("export/timing", model_format)
    if precision not in module.PRECISIONS:
        raise UsageError(
            f"models for {runtime} are made in {', '.join(module.PRECISIONS)}, got '{precision}'"
        )
    found: Exporter = module.exporter(runtime, precision)
    return found


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread meanwhile, so that its pool does not spin beside what is timed next."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
