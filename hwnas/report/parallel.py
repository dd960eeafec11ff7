"""The chart of all objectives at once: an axis for each, a line for each network of the front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hwnas.report.axes import Size, figure
from hwnas.report.dimensions import Dimension, shown
from hwnas.report.words import number, with_deviation
from hwnas.search.run import SearchResult

__all__ = ["parallel_chart"]

LINE_PX = 15
"""From one line of text to the next."""

THIRDS = ("best", "middle", "least")
"""Classes of the lines, by accuracy."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """One objective: what its axis says, its number for each network, which end is better."""

    words: tuple[str, ...]
    values: tuple[float, ...]
    best: float
    worst: float

    def height(self, index: int, top: float, bottom: float) -> float:
        """Where the network's line meets the axis: the best at the top."""
        if self.best == self.worst:
            return (top + bottom) / 2
        share = (self.values[index] - self.worst) / (self.best - self.worst)
        return round(bottom - share * (bottom - top), 1)


def parallel_chart(result: SearchResult, minimised: Sequence[Dimension]) -> str:
    """Parallel coordinates of the front (Inselberg 1985); higher up is better on every axis."""
    if not result.front:
        return ""
    scales = _scales(result, minimised)
    labels = [
        f"#{rank} {candidate.id}: "
        + ", ".join(one.said(shown(result, candidate, one).value) for one in minimised)
        + f", accuracy {with_deviation(candidate.accuracy)} estimated"
        for rank, candidate in enumerate(result.front, start=1)
    ]

    def draw(size: Size) -> list[str]:
        top, bottom = size.top + 62, size.bottom + 10
        left, right = 34, size.width - 34
        step = (right - left) / (len(scales) - 1)
        at = [round(left + place * step, 1) for place in range(len(scales))]
        parts = []
        for x, scale, place in zip(at, scales, range(len(scales)), strict=True):
            anchor = "start" if place == 0 else "end" if place == len(scales) - 1 else "middle"
            edge = x + {"start": -28, "end": 28}.get(anchor, 0)
            parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
            parts += [
                f'<text x="{edge}" y="{size.top + LINE_PX * line}" text-anchor="{anchor}">'
                f"{escape(words)}</text>"
                for line, words in enumerate(scale.words)
            ]
            parts += [
                f'<text class="name" x="{edge}" y="{height}" text-anchor="{anchor}">{number(value)}</text>'
                for value, height in ((scale.best, top - 7), (scale.worst, bottom + 16))
            ]
        for index, label in reversed(list(enumerate(labels))):
            third = THIRDS[3 * index // len(labels)]
            points = " ".join(
                f"{x},{scale.height(index, top, bottom)}" for x, scale in zip(at, scales, strict=True)
            )
            parts.append(
                f'<polyline class="thread {third}" points="{points}"><title>{escape(label)}</title>'
                "</polyline>"
            )
        return parts

    return (
        figure(draw, label="every network of the front over all objectives; the table has the same numbers")
        + '<ul class="legend"><li><i class="c1"></i>the most accurate third</li>'
        '<li><i class="c0"></i>the middle</li><li><i class="c2"></i>the least accurate third</li></ul>'
        '<p class="soft">A line for each network of the front; higher up is better on every axis. Lines '
        "that cross between two axes are what one objective costs the other.</p>"
    )


def _scales(result: SearchResult, minimised: Sequence[Dimension]) -> list[_Scale]:
    accuracies = tuple(candidate.accuracy.value for candidate in result.front)
    unit = result.config.accuracy_unit
    words = ("accuracy", "", f"{unit}, estimated".lstrip(", "))
    scales = [_Scale(words, accuracies, best=max(accuracies), worst=min(accuracies))]
    for one in minimised:
        values = tuple(shown(result, candidate, one).value for candidate in result.front)
        words = (
            one.noun,
            one.device if one.among_devices else "",
            ", ".join(filter(None, (one.unit, one.provenance))),
        )
        scales.append(_Scale(words, values, best=min(values), worst=max(values)))
    return scales
