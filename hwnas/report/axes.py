"""The ground of every chart: a size for wide and one for narrow screens, axes, ticks, titles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["NARROW", "WIDE", "Axis", "Size", "figure", "frame", "ticks"]


DIGIT_PX = 7.0
"""How wide a digit is in a chart, about."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a chart is and where its axes stand, in pixels of the SVG."""

    width: int
    height: int
    left: int
    right: int
    """x of the right end of the axis."""
    top: int
    bottom: int
    """y of the horizontal axis."""

    def horizontal(self, low: float, high: float, *, log: bool = False) -> Axis:
        """An axis along the bottom."""
        return Axis(low, high, self.left, self.right, about=max(4, self.width // 90), log=log)

    def vertical(self, low: float, high: float) -> Axis:
        """An axis along the left side; larger values are higher up."""
        return Axis(low, high, self.bottom, self.top, about=max(4, self.height // 55))


WIDE = Size(width=760, height=430, left=58, right=744, top=14, bottom=384)
NARROW = Size(width=360, height=340, left=44, right=352, top=12, bottom=298)
"""For phones: as wide as they are, so that 12 pixels of text stay 12 pixels."""


class Axis:
    """Maps values to pixels, with a margin of 4 % on both sides; ticks at round numbers.

    A logarithmic axis has ticks at 1, 2 and 5 times powers of ten.
    """

    def __init__(
        self, low: float, high: float, start: float, end: float, *, about: int = 8, log: bool = False
    ) -> None:
        self._scale: Callable[[float], float] = math.log10 if log else float
        bottom, top = self._scale(low), self._scale(high)
        margin = 0.04 * (top - bottom) or (0.1 if log else 1.0)
        self._low, self._high = bottom - margin, top + margin
        self._start, self._end = start, end
        self.low = 10**self._low if log else self._low
        self.high = 10**self._high if log else self._high
        self.ticks = _log_ticks(self.low, self.high) if log else ticks(self.low, self.high, about=about)

    def at(self, value: float) -> float:
        """The pixel of a value; values beyond the axis lie beyond it."""
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return round(self._start + share * (self._end - self._start), 1)

    def within(self, value: float) -> float:
        """The pixel of a value, or of the axis' end where the value lies beyond."""
        return self.at(min(max(value, self.low), self.high))


def ticks(low: float, high: float, *, about: int = 8) -> list[float]:
    """Round numbers between low and high, about so many, in steps of 1, 2 or 5."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10 ** math.floor(math.log10(span / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= about)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def frame(size: Size, x: Axis, y: Axis, *, x_title: str, y_title: str) -> str:
    """Grid, numbers and titles."""
    parts = []
    for value in x.ticks:
        at = x.at(value)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{size.top}" y2="{size.bottom}"/>')
        text = _short(value)
        inside = at + DIGIT_PX * len(text) / 2 <= size.width
        parts.append(
            f'<text x="{at if inside else size.width}" y="{size.bottom + 17}" '
            f'text-anchor="{"middle" if inside else "end"}">{text}</text>'
        )
    for value in y.ticks:
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{size.left}" x2="{size.right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{size.left - 7}" y="{at + 4}" text-anchor="end">{_short(value)}</text>')
    across, down = (size.left + size.right) / 2, (size.top + size.bottom) / 2
    parts.append(
        f'<text x="{across:.0f}" y="{size.height - 7}" text-anchor="middle">{escape(x_title)}</text>'
        f'<text transform="translate(12 {down:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_title)}</text>"
    )
    return "".join(parts)


def figure(draw: Callable[[Size], Sequence[str]], *, label: str) -> str:
    """The chart for wide and for narrow screens, of which the style sheet shows one.

    `draw` gives the SVG's content for a size. `label` tells those who do not see it what it shows.
    """
    charts = "".join(
        f'<svg class="{name}" viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(draw(size))}</svg>'
        for name, size in (("wide-only", WIDE), ("narrow-only", NARROW))
    )
    return f'<div class="chart">{charts}</div>'


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 5 else (1,)
    return [
        value
        for power in powers
        for factor in factors
        if low <= (value := float(f"{factor}e{power}")) <= high
    ]


def _short(value: float) -> str:
    """A tick's number: 0.5, 200, 20k."""
    return f"{value / 1000:g}k" if value >= 10_000 and value % 1000 == 0 else f"{value:g}"
