"""An architecture in one line: `224 px, 96x2 -> 192x2 reuse -> 224x2 reuse`."""

from __future__ import annotations

from hwnas.space.arch import ArchSpec

__all__ = ["outline"]


def outline(arch: ArchSpec) -> str:
    """Resolution, then for each stage width x depth and the attention types of its blocks."""
    stages = []
    for stage in arch.stages:
        kinds = dict.fromkeys(block.type for block in stage.blocks if block is not None)
        stages.append(" ".join([f"{stage.width}x{stage.depth}", "+".join(kinds)]).rstrip())
    return f"{arch.resolution} px, {' -> '.join(stages)}"
