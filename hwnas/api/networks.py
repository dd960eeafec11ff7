"""What the functions of the API take as a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.named import resolve_promised
from hwnas.search import Candidate
from hwnas.space import ArchSpec

if TYPE_CHECKING:
    from hwnas.targets import Promise

__all__ = ["Arch", "arch_of"]

Arch = ArchSpec | Candidate | str | Path
"""An architecture, a network of a front, or a name: a preset, a YAML file, "runs/a#1", a checkpoint."""


def arch_of(network: Arch) -> tuple[str, ArchSpec, Promise | None]:
    """(name, architecture, latency budgets that it was searched for).

    An `ArchSpec` or `Candidate` is named by its id and brings no budgets. Raises UsageError for an unknown
    name, ArchError and FileFormatError for a file that is wrong.
    """
    if isinstance(network, Candidate):
        return network.id, network.arch, None
    if isinstance(network, ArchSpec):
        return network.id, network, None
    return resolve_promised(str(network))
