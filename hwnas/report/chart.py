"""The front as an inline SVG: accuracy against latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Mark", "front_chart", "ticks"]

WIDTH, HEIGHT = 760, 430
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the chart."""

    latency_ms: float
    accuracy: float
    label: str
    """What a tooltip says; the name beside a preset."""
    low: float | None = None
    """Lower end of the accuracy's interval."""
    high: float | None = None


def front_chart(
    *,
    candidates: Sequence[tuple[float, float]],
    front: Sequence[Mark],
    presets: Sequence[Mark],
    budget_ms: float,
    latency_title: str,
    accuracy_title: str,
) -> str:
    """SVG text: all candidates faint, the front as dots on a line, presets with their names.

    `candidates` are (latency in ms, accuracy). Presets beyond 1.5 times the budget are left out.
    """
    presets = [mark for mark in presets if mark.latency_ms <= 1.5 * budget_ms]
    xs = [mark.latency_ms for mark in (*front, *presets)] + [x for x, _ in candidates] + [budget_ms]
    ys = [mark.accuracy for mark in (*front, *presets)] + _bulk([y for _, y in candidates])
    x_axis = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(min(ys, default=0.0), max(ys, default=1.0), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(accuracy_title)} against '
        f'{escape(latency_title)}; the same numbers are in the table below">'
    ]
    for value in x_axis.ticks:
        x = x_axis.at(value)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in y_axis.ticks:
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{escape(latency_title)}</text>"
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(accuracy_title)}</text>'
    )
    inside = [(x, y) for x, y in candidates if y >= y_axis.low]
    dots = "".join(f"M{x_axis.at(x)} {y_axis.at(y)}h0" for x, y in inside)
    if dots:
        parts.append(f'<path class="all" d="{dots}" stroke-width="4" stroke-linecap="round"/>')
    edge = x_axis.at(budget_ms)
    parts.append(
        f'<line class="budget" x1="{edge}" x2="{edge}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{edge - 6}" y="{TOP + 12}" text-anchor="end">budget {budget_ms:g} ms</text>'
    )
    line = " ".join(f"{x_axis.at(mark.latency_ms)},{y_axis.at(mark.accuracy)}" for mark in front)
    parts.append(f'<polyline class="front" points="{line}"/>')
    for mark in front:
        x, y = x_axis.at(mark.latency_ms), y_axis.at(mark.accuracy)
        if mark.low is not None and mark.high is not None:
            ends = (min(max(y_axis.at(end), TOP), HEIGHT - BOTTOM) for end in (mark.low, mark.high))
            first, last = ends
            parts.append(f'<line class="error" x1="{x}" x2="{x}" y1="{first}" y2="{last}"/>')
        parts.append(
            f'<circle class="dot" cx="{x}" cy="{y}" r="5"><title>{escape(mark.label)}</title></circle>'
        )
    parts += _named(presets, x_axis, y_axis)
    return "".join([*parts, "</svg>"])


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


class _Axis:
    """Maps values to pixels, with a margin of 4 % on both sides."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        margin = 0.04 * (high - low) or 1.0
        self.low, self.high = low - margin, high + margin
        self._start, self._end = start, end
        self.ticks = ticks(self.low, self.high)

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)


def _bulk(values: list[float]) -> list[float]:
    """The values without the worst twentieth, which would press the rest together."""
    return sorted(values)[len(values) // 20 :]


def _named(presets: Sequence[Mark], x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """Diamonds with names; a name that would lie on another one is left to the tooltip."""
    parts, taken = [], list[tuple[float, float]]()
    for mark in sorted(presets, key=lambda mark: -mark.accuracy):
        x, y = x_axis.at(mark.latency_ms), y_axis.at(mark.accuracy)
        parts.append(
            f'<path class="preset" d="M{x} {y - 6}l6 6l-6 6l-6 -6z">'
            f"<title>{escape(mark.label)}</title></path>"
        )
        width = 6.2 * len(mark.label.partition(":")[0])
        if all(abs(y - other_y) > 13 or abs(x - other_x) > width + 20 for other_x, other_y in taken):
            taken.append((x, y))
            left = x + 10 + width > WIDTH - RIGHT
            parts.append(
                f'<text class="name" x="{x - 10 if left else x + 10}" y="{y + 4}" '
                f'text-anchor="{"end" if left else "start"}">{escape(mark.label.partition(":")[0])}</text>'
            )
    return parts
