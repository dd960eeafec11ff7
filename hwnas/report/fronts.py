"""What a chart of accuracy against one quantity holds: fronts, candidates, published networks, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwnas.report.dimensions import (
    Dimension,
    accuracy_noun,
    dimensions,
    number,
    shown,
    spread_over,
    with_deviation,
)
from hwnas.report.published import PublishedNetwork, is_on_published_scale
from hwnas.search import pareto
from hwnas.search.run import SearchResult
from hwnas.space.outline import outline

__all__ = ["Front", "FrontView", "Mark", "accuracy_title", "axis_title", "front_marks", "front_view"]

NAMED = 12
"""The most networks of a line that have a name and a deviation drawn: more would hide the line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A network in a chart of accuracy against a quantity that should be small."""

    x: float
    accuracy: float
    label: str
    """The tooltip."""
    name: str = ""
    """The text beside it, where there is room."""
    low: float | None = None
    """Lower end of the accuracy's interval."""
    high: float | None = None
    left: float | None = None
    """Lower end of the interval of `x`."""
    right: float | None = None
    rank: int = 0
    """Its rank on the front, from 1; 0 for a published network."""


@dataclass(frozen=True, slots=True)
class Front:
    """A front and its name."""

    name: str
    marks: Sequence[Mark]

    @property
    def chain(self) -> list[Mark]:
        """Its networks that no other of it beats in this chart, from left to right.

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
class FrontView:
    """One chart of accuracy against a quantity."""

    fronts: Sequence[Front]
    x_title: str
    accuracy_title: str
    candidates: Sequence[tuple[float, float]] = ()
    """All evaluated networks: (x, accuracy)."""
    published: Sequence[Mark] = ()
    bounds: Sequence[tuple[float, str]] = ()
    """Limits of x, each with its words."""
    name: str = ""
    """The dimension's name, as `latency rpi4`."""
    heading: str = ""
    """`Accuracy and latency on rpi4`; empty where there is one chart only."""

    def in_sight(self) -> tuple[list[Mark], list[float], list[float]]:
        """The published networks that the chart shows, and what its two axes must reach.

        Published networks beyond 1.5 times the largest bound, or network where there is none, are left
        out. Intervals may widen the horizontal axis by a quarter to each side; a wider band is cut there.
        """
        marks = [mark for front in self.fronts for mark in front.marks]
        at_bounds = [x for x, _ in self.bounds]
        own = [mark.x for mark in marks] + [x for x, _ in self.candidates]
        most = 1.5 * max(at_bounds or own or [0.0])
        near = [mark for mark in self.published if mark.x <= most]
        xs = [*own, *at_bounds, *(mark.x for mark in near)]
        if xs:
            low, high = min(xs), max(xs)
            wider = 0.25 * (high - low)
            ends = [end for mark in marks for end in (mark.left, mark.right) if end is not None]
            xs += [min(max(end, low - wider), high + wider) for end in ends]
        ys = [mark.accuracy for mark in (*marks, *near)] + _bulk([y for _, y in self.candidates])
        return near, xs or [0.0, 1.0], ys or [0.0, 1.0]


def front_view(result: SearchResult, along: Dimension, published: Sequence[PublishedNetwork]) -> FrontView:
    """The chart of a run's accuracy against one of its dimensions."""
    several = len(result.config.minimised) > 1
    return FrontView(
        fronts=(Front("front", front_marks(result, along)),),
        x_title=axis_title(result, along),
        accuracy_title=accuracy_title(result),
        candidates=[(one.number(along.name) / along.per_unit, one.accuracy.value) for one in result.trials],
        published=_published_marks(result, published, along),
        bounds=() if along.limit is None else ((along.limit, along.bound),),
        name=along.name,
        heading=f"Accuracy and {along.noun}{along.place}" if several else "",
    )


def front_marks(result: SearchResult, along: Dimension) -> list[Mark]:
    """The front's networks as a chart along a dimension shows them, best accuracy first."""
    found = dimensions(result.config)
    marks = []
    for rank, candidate in enumerate(result.front, start=1):
        at, accuracy = shown(result, candidate, along), candidate.accuracy
        said = [one.said(shown(result, candidate, one).value, provenance=_how(result, one)) for one in found]
        marks.append(
            Mark(
                at.value,
                accuracy.value,
                f"#{rank} {outline(candidate.arch)}: {', '.join(said)}, "
                f"accuracy {with_deviation(accuracy)} estimated",
                name=f"#{rank}",
                low=accuracy.value - accuracy.std,
                high=accuracy.value + accuracy.std,
                left=at.low,
                right=at.high,
                rank=rank,
            )
        )
    return marks


def axis_title(result: SearchResult, dimension: Dimension) -> str:
    """The title of a chart's axis."""
    verified = result.is_verified and dimension.name == "latency"
    return (replace(dimension, provenance="the front measured") if verified else dimension).title


def accuracy_title(result: SearchResult) -> str:
    """The title of the accuracy's axis."""
    unit = result.config.accuracy_unit
    return f"{accuracy_noun(result.config)}, estimated{f' ({unit})' if unit else ''}"


def _published_marks(
    result: SearchResult, published: Sequence[PublishedNetwork], along: Dimension
) -> list[Mark]:
    """The published networks whose accuracy is known."""
    how = "published" if is_on_published_scale(result) else "estimated"
    return [
        Mark(
            along.of(one).value,
            one.accuracy,
            f"{one.name}: {along.said(along.of(one).value)}, accuracy {number(one.accuracy)} {how}",
            name=one.name,
        )
        for one in published
        if one.accuracy is not None
    ]


def _how(result: SearchResult, dimension: Dimension) -> str | None:
    """What a shown latency is, where that is not what the dimension says."""
    return "measured now" if result.is_verified and dimension.name == "latency" else None


def _bulk(values: list[float]) -> list[float]:
    """The values without the worst twentieth, which would press the rest together."""
    return sorted(values)[len(values) // 20 :]
