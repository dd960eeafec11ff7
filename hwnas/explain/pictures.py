"""Pictures of maps and matrices: heat over an image, tiles side by side with a line above each."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
from torch import Tensor

__all__ = ["Picture", "grid", "heat", "matrix", "over", "png", "shown"]

Picture = PIL.Image.Image

_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
"""Viridis at 0, 1/4, 1/2, 3/4 and 1: as light in print and to the colour-blind as the values are large."""
_LINE = 14  # height in pixels of a line of text
_GAP = 6


def shown(pixels: Tensor, mean: Sequence[float], deviation: Sequence[float], side: int) -> Picture:
    """The picture, of that side, of an image as the network gets it: (3, R, R), normalised."""
    values = pixels.permute(1, 2, 0).double().numpy() * np.array(deviation) + np.array(mean)
    own = PIL.Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8))
    return own.resize((side, side), PIL.Image.Resampling.BICUBIC)


def heat(values: Tensor) -> Picture:
    """A pixel for each value of (H, W), from dark (0 and below) to bright (1 and above)."""
    at = np.linspace(0, 1, len(_COLOURS))
    clipped = values.double().numpy().clip(0, 1)
    channels = [np.interp(clipped, at, _COLOURS[:, channel]) for channel in range(3)]
    return PIL.Image.fromarray(np.stack(channels, axis=-1).round().astype(np.uint8))


def over(picture: Picture, values: Tensor) -> Picture:
    """The map (H, W) as heat over the picture, its largest value the brightest; a map of zeros is dark."""
    largest = float(values.max())
    scaled = values / largest if largest > 0 else values
    coloured = heat(scaled).resize(picture.size, PIL.Image.Resampling.BILINEAR)
    return PIL.Image.blend(picture, coloured, 0.55)


def matrix(values: Tensor, side: int) -> Picture:
    """A square matrix of values from 0 to 1 in a picture of about that side, a cell for each value."""
    cell = max(1, side // len(values))
    return heat(values).resize((cell * len(values),) * 2, PIL.Image.Resampling.NEAREST)


def grid(rows: Sequence[tuple[str, Sequence[tuple[str, Picture]]]]) -> Picture:
    """Rows of tiles on white: a line of text above each row, and a caption above each tile."""
    above = 2 * _LINE
    heights = [above + max(tile.height for _, tile in tiles) + _GAP for _, tiles in rows]
    width = max(sum(_tile_width(*tile) + _GAP for tile in tiles) for _, tiles in rows)
    width = max(width, *(_text_width(text) for text, _ in rows)) + _GAP
    sheet = PIL.Image.new("RGB", (width, sum(heights) + _GAP), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    y = _GAP
    for (text, tiles), height in zip(rows, heights, strict=True):
        pen.text((_GAP, y), text, fill="black")
        x = _GAP
        for caption, tile in tiles:
            pen.text((x, y + _LINE), caption, fill="black")
            sheet.paste(tile, (x, y + above))
            x += _tile_width(caption, tile) + _GAP
        y += height
    return sheet


def png(picture: Picture) -> bytes:
    """The picture as the content of a PNG file."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _tile_width(caption: str, tile: Picture) -> int:
    return max(tile.width, _text_width(caption))


def _text_width(text: str) -> int:
    probe = PIL.ImageDraw.Draw(PIL.Image.new("RGB", (1, 1)))
    return int(probe.textlength(text)) + _GAP
