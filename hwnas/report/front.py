"""The report's section on the front: a chart for each objective, with published networks beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from hwnas.report.chart import Front, Mark, front_chart
from hwnas.report.dimensions import Dimension, dimensions, shown
from hwnas.report.parallel import parallel_chart
from hwnas.report.published import PublishedNetwork, is_on_published_scale, published_networks
from hwnas.report.words import interval, number, with_deviation
from hwnas.search.run import SearchResult

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = [
    "accuracy_title",
    "axis_title",
    "front_marks",
    "front_section",
    "provenances",
    "published_marks",
]


def front_section(result: SearchResult, tables: Mapping[str, LatencyTable]) -> str:
    """The charts of accuracy against what is minimised, and the published networks in them as a table."""
    config = result.config
    found = dimensions(config)
    minimised = [one for one in found if one.minimised]
    published = published_networks(result, tables)
    charts = []
    if len(minimised) > 1:
        charts.append(f"<h3>All objectives</h3>{parallel_chart(result, minimised)}")
    for one in minimised:
        if len(minimised) > 1:
            charts.append(f"<h3>Accuracy and {escape(one.noun + one.place)}</h3>")
        charts.append(
            front_chart(
                fronts=[Front(config.devices[0], front_marks(result, one))],
                candidates=[
                    (trial.number(one.name) / one.per_unit, trial.accuracy.value) for trial in result.trials
                ],
                published=published_marks(result, published, one),
                bounds=[] if one.limit is None else [(one.limit, one.bound)],
                x_title=axis_title(result, one),
                accuracy_title=accuracy_title(result),
            )
        )
    words = (
        "their published ImageNet-1K top-1 accuracy"
        if is_on_published_scale(result)
        else "the accuracy estimated in this run; those that it did not evaluate are left out"
    )
    how = provenances(found)
    here = "these devices" if len(config.devices) > 1 else "this device"
    line = (
        "The line joins those that no other beats in the chart's two objectives; fainter ones are on the "
        "front for another objective. "
        if len(minimised) > 1
        else ""
    )
    faint = f"by the {how} table" if result.is_verified else how
    return (
        f'<section id="front"><h2>The front</h2>{"".join(charts)}'
        '<p class="soft">Dots on the line: the front, with one standard deviation of the accuracy; the band '
        f"is the interval of the latency. {line}"
        f"Faint: all evaluated networks, {escape(faint)} (the worst twentieth may lie below the chart). "
        f"Diamonds: published networks, at their latency {escape(how)} on {here} and "
        f"{words}.</p>{_published_table(result, published, found)}</section>"
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
                f"#{rank} {candidate.id}: {', '.join(said)}, accuracy {with_deviation(accuracy)} estimated",
                name=f"#{rank}",
                low=accuracy.value - accuracy.std,
                high=accuracy.value + accuracy.std,
                left=at.low,
                right=at.high,
            )
        )
    return marks


def published_marks(
    result: SearchResult, published: Sequence[PublishedNetwork], along: Dimension
) -> list[Mark]:
    """The published networks whose accuracy is known, as a chart along a dimension shows them."""
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


def axis_title(result: SearchResult, dimension: Dimension) -> str:
    """What stands at a chart's axis."""
    verified = result.is_verified and dimension.name == "latency"
    return (replace(dimension, provenance="the front measured") if verified else dimension).title


def accuracy_title(result: SearchResult) -> str:
    """What stands at the axis of the accuracy."""
    unit = result.config.accuracy_unit
    return f"accuracy, estimated{f' ({unit})' if unit else ''}"


def provenances(found: Sequence[Dimension]) -> str:
    """What the latencies are: `estimated`, or `estimated (rpi4), measured (cpu-x86)` where they differ."""
    by_device = {one.device: one.provenance for one in found if one.device}
    if len(set(by_device.values())) == 1:
        return next(iter(by_device.values()))
    return ", ".join(f"{provenance} ({device})" for device, provenance in by_device.items())


def _published_table(
    result: SearchResult, published: Sequence[PublishedNetwork], found: Sequence[Dimension]
) -> str:
    """Every published network, and the front's fastest that is at least as good as it in everything."""
    if not published:
        return ""
    how = "published" if is_on_published_scale(result) else "estimated"
    shared = [one for one in found if one.name not in ("params", "macs")]
    headings = [heading for one in shared for heading in (one.column, *_reach(one))]
    rows = "".join(
        f'<tr><td class="left">{escape(one.name)}</td>'
        + "".join(
            f"<td>{number(each.of(one).value)}</td>"
            + (f"<td>{interval(each.of(one))}</td>" if each.device else "")
            for each in shared
        )
        + f"<td>{'' if one.accuracy is None else number(one.accuracy)}</td>"
        f"<td>{_better(result, one, found)}</td><td>{one.params / 1e6:.2f}</td>"
        f"<td>{one.macs / 1e6:.0f}</td></tr>"
        for one in published
    )
    better = "as good in all objectives" if len(result.config.minimised) > 1 else "as fast and as accurate"
    return (
        '<details><summary>Published networks beside the front</summary><div class="wide"><table><thead><tr>'
        '<th class="left">network</th>'
        + "".join(f"<th>{escape(heading)}</th>" for heading in headings)
        + f"<th>accuracy {escape(result.config.accuracy_unit)}, {how}</th>"
        f"<th>{better}</th><th>params M</th><th>MACs M</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _reach(dimension: Dimension) -> list[str]:
    """The heading of the column of its interval, where it has one."""
    if not dimension.device:
        return []
    return [replace(dimension, noun=f"{dimension.noun} interval").column]


def _better(result: SearchResult, published: PublishedNetwork, found: Sequence[Dimension]) -> str:
    """The rank of the front's fastest network that is predicted no worse in any objective."""
    if published.accuracy is None:
        return ""
    minimised = [one for one in found if one.minimised]
    ranks = [
        rank
        for rank, one in enumerate(result.front, start=1)
        if one.accuracy.value >= published.accuracy
        and all(each.of(one).value <= each.of(published).value for each in minimised)
    ]
    return f"#{ranks[-1]}" if ranks else ""


def _how(result: SearchResult, dimension: Dimension) -> str | None:
    """What a shown latency is, where that is not what the dimension says."""
    return "measured now" if result.is_verified and dimension.name == "latency" else None
