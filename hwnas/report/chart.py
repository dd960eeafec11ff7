"""The chart of fronts as inline SVG, and the shapes and keys that tell several apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from hwnas.report.axes import WIDE, Axis, Size, figure, frame
from hwnas.report.spread import spread_over
from hwnas.search import pareto

__all__ = ["SERIES", "Front", "Mark", "front_chart", "in_sight", "key", "shape"]

SERIES = 6
"""How many fronts or curves have a colour of their own; more begin anew."""

NAMED = 12
"""The most networks of a line that have a name and a deviation drawn: more would hide the line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A network in a chart of accuracy against something that should be small."""

    x: float
    accuracy: float
    label: str
    """What a tooltip says."""
    name: str = ""
    """What stands beside it, where there is room."""
    low: float | None = None
    """Lower end of the accuracy's interval."""
    high: float | None = None
    left: float | None = None
    """Lower end of the interval of `x`."""
    right: float | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """A front and its name; its number among several gives colour and shape."""

    name: str
    marks: Sequence[Mark]
    number: int = 0

    @property
    def style(self) -> str:
        """The class of its colour."""
        return f"s{self.number % SERIES}"

    @property
    def chain(self) -> list[Mark]:
        """Its networks that none other of it beats in this chart, from left to right.

        All of them, where nothing else is minimised.
        """
        kept = pareto.front([(mark.x, -mark.accuracy) for mark in self.marks])
        return sorted((self.marks[index] for index in kept), key=lambda mark: (mark.x, mark.accuracy))

    @property
    def named(self) -> list[Mark]:
        """Those of the chain that have room for a name and a deviation, best accuracy first."""
        chain = self.chain[::-1]
        return [chain[index] for index in spread_over(len(chain), NAMED)]


@dataclass(frozen=True, slots=True)
class _Names:
    """Names beside marks; one that would lie on another is left to the tooltip."""

    size: Size
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def put(self, x: float, y: float, text: str) -> str:
        width = 6.6 * len(text)
        left = x + 10 + width > self.size.right
        start = x - 10 - width if left else x + 10
        if start < self.size.left:
            return ""
        for other, end, height in self.taken:
            if abs(y - height) < 13 and start < end + 4 and other < start + width + 4:
                return ""
        self.taken.append((start, start + width, y))
        anchor = "end" if left else "start"
        return (
            f'<text class="name" x="{x - 10 if left else x + 10}" y="{y + 4}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )


def front_chart(
    *,
    fronts: Sequence[Front],
    candidates: Sequence[tuple[float, float]] = (),
    published: Sequence[Mark] = (),
    bounds: Sequence[tuple[float, str]] = (),
    x_title: str,
    accuracy_title: str,
) -> str:
    """Fronts with their networks, all candidates faint, published networks by name, bounds as lines.

    `candidates` are (x, accuracy); `bounds` are (x, what it is). A line joins the networks that no other
    of the front beats in this chart; its band is their interval along x. Published networks beyond 1.5
    times the largest bound, or network where there is none, are left out.
    """
    published, xs, ys = in_sight(fronts, candidates, published, bounds)

    def draw(size: Size) -> list[str]:
        x, y = size.horizontal(min(xs), max(xs)), size.vertical(min(ys), max(ys))
        parts = [frame(size, x, y, x_title=x_title, y_title=accuracy_title)]
        pixels = dict.fromkeys((round(x.at(a)), round(y.at(b))) for a, b in candidates if b >= y.low)
        if pixels:
            path = "".join(f"M{a} {b}h0" for a, b in pixels)
            parts.append(f'<path class="all" d="{path}"/>')
        for value, words in dict.fromkeys(bounds):
            parts.append(_bound(size, x, value, words))
        parts += [_band(front, x, y) for front in fronts]
        names = _Names(size)
        for front in fronts:
            parts += _front(front, x, y)
        for mark in sorted(published, key=lambda mark: -mark.accuracy):
            a, b = x.at(mark.x), y.at(mark.accuracy)
            parts.append(
                f'<path class="preset" d="M{a} {b - 6}l6 6l-6 6l-6 -6z">'
                f"<title>{escape(mark.label)}</title></path>"
            )
            parts.append(names.put(a, b, mark.name))
        for front in fronts:
            parts += [names.put(x.at(one.x), y.at(one.accuracy), one.name) for one in front.named]
        return parts

    return figure(draw, label=f"{accuracy_title} against {x_title}; the same numbers are in the tables below")


def in_sight(
    fronts: Sequence[Front],
    candidates: Sequence[tuple[float, float]],
    published: Sequence[Mark],
    bounds: Sequence[tuple[float, str]],
) -> tuple[list[Mark], list[float], list[float]]:
    """The published networks that a chart of all this shows, and what its two axes must reach.

    Intervals may widen the horizontal one by a quarter to each side; a wider band is cut there.
    """
    marks = [mark for front in fronts for mark in front.marks]
    at_bounds = [x for x, _ in bounds]
    own = [mark.x for mark in marks] + [x for x, _ in candidates]
    most = 1.5 * max(at_bounds or own or [0.0])
    near = [mark for mark in published if mark.x <= most]
    xs = [*own, *at_bounds, *(mark.x for mark in near)]
    if xs:
        low, high = min(xs), max(xs)
        wider = 0.25 * (high - low)
        ends = [end for mark in marks for end in (mark.left, mark.right) if end is not None]
        xs += [min(max(end, low - wider), high + wider) for end in ends]
    ys = [mark.accuracy for mark in (*marks, *near)] + _bulk([y for _, y in candidates])
    return near, xs or [0.0, 1.0], ys or [0.0, 1.0]


def key(series: Sequence[tuple[str, int]], *, joined: bool = True) -> str:
    """Whose is which shape, and which line where they are joined: names with their numbers."""
    items = "".join(
        '<li><svg class="key" viewBox="0 0 34 14" aria-hidden="true">'
        + (f'<path class="line s{number % SERIES}" d="M0 7H34"/>' if joined else "")
        + f"{shape(number, 17, 7, f's{number % SERIES}')}</svg>{escape(name)}</li>"
        for name, number in series
    )
    return f'<ul class="legend">{items}</ul>'


def _bound(size: Size, x: Axis, value: float, words: str) -> str:
    edge = x.at(value)
    top = size.top + 12 if size is WIDE else size.bottom - 8
    right = edge - 6.6 * len(words) - 6 < size.left
    return (
        f'<path class="budget" d="M{edge} {size.top}V{size.bottom}"/>'
        f'<text x="{edge + 6 if right else edge - 6}" y="{top}" '
        f'text-anchor="{"start" if right else "end"}">{escape(words)}</text>'
    )


def _band(front: Front, x: Axis, y: Axis) -> str:
    """The intervals along x, joined from network to network."""
    ends = [
        (one.left, one.right, y.at(one.accuracy))
        for one in front.chain
        if one.left is not None and one.right is not None
    ]
    if len(ends) < 2:
        return ""
    left = " ".join(f"{x.within(fast)},{height}" for fast, _, height in ends)
    right = " ".join(f"{x.within(slow)},{height}" for _, slow, height in reversed(ends))
    return f'<polygon class="band {front.style}" points="{left} {right}"/>'


def _front(front: Front, x: Axis, y: Axis) -> list[str]:
    style, chain = front.style, front.chain
    line = " ".join(f"{x.at(mark.x)},{y.at(mark.accuracy)}" for mark in chain)
    parts = [f'<polyline class="line {style}" points="{line}"/>'] if chain else []
    joined, named = ({id(mark) for mark in some} for some in (chain, front.named))
    for mark in sorted(front.marks, key=lambda mark: id(mark) in joined):
        a, b = x.at(mark.x), y.at(mark.accuracy)
        if id(mark) in named and mark.low is not None and mark.high is not None and mark.high > mark.low:
            parts.append(f'<path class="error {style}" d="M{a} {y.within(mark.low)}V{y.within(mark.high)}"/>')
        title = f"<title>{escape(mark.label)}</title>"
        parts.append(shape(front.number, a, b, style if id(mark) in joined else f"{style} aside", title))
    return parts


def shape(number: int, x: float, y: float, style: str, title: str = "") -> str:
    """A circle, a square, a triangle or a diamond: fronts differ by more than colour."""
    if number % 4 == 0:
        return f'<circle class="dot {style}" cx="{x}" cy="{y}" r="5">{title}</circle>'
    path = {1: "m-4.5 -4.5h9v9h-9z", 2: "m0 -6l5.5 10h-11z", 3: "m0 -6l6 6l-6 6l-6 -6z"}[number % 4]
    return f'<path class="dot {style}" d="M{x} {y}{path}">{title}</path>'


def _bulk(values: list[float]) -> list[float]:
    """The values without the worst twentieth, which would press the rest together."""
    return sorted(values)[len(values) // 20 :]
