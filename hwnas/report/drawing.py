"""An architecture drawn: a bar per block, as high as its stage is wide, in the colour of its attention."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.report.charts import GREY, KINDS
from hwnas.space.arch import ArchSpec

__all__ = ["HEIGHT_PX", "Bar", "drawn"]

BAR_PX, GAP_PX, BETWEEN_PX, HEIGHT_PX = 7, 1, 6, 26
"""Width of a block, gap between blocks, gap between stages, height of the widest stage."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One block, in pixels from the top left."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    words: str
    """For its tooltip: `stage 2: 128 wide, reuse`."""


def drawn(arch: ArchSpec) -> tuple[Bar, ...]:
    """The blocks of a network from left to right."""
    widest = max(stage.width for stage in arch.stages)
    bars, x = [], 0
    for number, stage in enumerate(arch.stages, start=1):
        height = max(3, round(HEIGHT_PX * stage.width / widest))
        for block in stage.blocks:
            kind = "no attention" if block is None else block.type
            colour = GREY if block is None else KINDS.get(block.type, GREY)
            words = f"stage {number}: {stage.width} wide, {kind}"
            bars.append(Bar(x, HEIGHT_PX - height, BAR_PX, height, colour, words))
            x += BAR_PX + GAP_PX
        x += BETWEEN_PX
    return tuple(bars)
