"""The report's sections on the front: its chart with the published networks, and its networks as a table."""

from __future__ import annotations

import shlex
from html import escape
from typing import TYPE_CHECKING

from hwnas.predictors.estimate import Estimate
from hwnas.report.chart import Front, Mark, front_chart
from hwnas.report.published import PublishedNetwork, is_on_published_scale, published_networks
from hwnas.report.words import interval, number, with_deviation
from hwnas.search.candidate import Candidate
from hwnas.search.run import SearchResult

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

__all__ = ["front_marks", "front_section", "networks_section", "shown_latency"]


def front_marks(result: SearchResult) -> list[Mark]:
    """The front's networks as a chart shows them, best accuracy first."""
    marks = []
    for rank, candidate in enumerate(result.front, start=1):
        latency, accuracy = shown_latency(result, candidate), candidate.accuracy
        marks.append(
            Mark(
                latency.value,
                accuracy.value,
                f"#{rank} {candidate.id}: {number(latency.value)} ms {_how(result)}, "
                f"accuracy {with_deviation(accuracy)} estimated",
                name=f"#{rank}",
                low=accuracy.value - accuracy.std,
                high=accuracy.value + accuracy.std,
                fast_ms=latency.low,
                slow_ms=latency.high,
            )
        )
    return marks


def front_section(result: SearchResult, table: LatencyTable | None) -> str:
    """The chart of accuracy against latency, and the published networks in it as a table."""
    question = result.question
    unit = f" ({question.accuracy_unit})" if question.accuracy_unit else ""
    published = published_networks(result, table)
    chart = front_chart(
        fronts=[Front(question.device, front_marks(result))],
        candidates=[(trial.latency.value, trial.accuracy.value) for trial in result.trials],
        published=_published_marks(result, published),
        budgets_ms=[question.budget_ms],
        latency_title="latency, the front measured (ms)"
        if result.is_verified
        else f"latency, {question.provenance} (ms)",
        accuracy_title=f"accuracy, estimated{unit}",
    )
    words = (
        "their published ImageNet-1K top-1 accuracy"
        if is_on_published_scale(result)
        else "the accuracy estimated in this run; those that it did not evaluate are left out"
    )
    faint = f"by the {question.provenance} table" if result.is_verified else question.provenance
    return (
        f'<section id="front"><h2>The front</h2>{chart}'
        '<p class="soft">Dots on the line: the front, with one standard deviation of the accuracy; the band '
        "is the interval of the latency. "
        f"Faint: all evaluated networks, {escape(faint)} (the worst twentieth may lie below the chart). "
        f"Diamonds: published networks, at their latency {escape(question.provenance)} on this device and "
        f"{words}.</p>{_published_table(result, published)}</section>"
    )


def _published_marks(result: SearchResult, published: tuple[PublishedNetwork, ...]) -> list[Mark]:
    how = "published" if is_on_published_scale(result) else "estimated"
    return [
        Mark(
            one.latency.value,
            one.accuracy,
            f"{one.name}: {number(one.latency.value)} ms {result.question.provenance}, "
            f"accuracy {number(one.accuracy)} {how}",
            name=one.name,
        )
        for one in published
        if one.accuracy is not None
    ]


def _published_table(result: SearchResult, published: tuple[PublishedNetwork, ...]) -> str:
    """Every published network, and the front's fastest that is at least as good as it in both."""
    if not published:
        return ""
    how = "published" if is_on_published_scale(result) else "estimated"
    provenance = escape(result.question.provenance)
    rows = "".join(
        f'<tr><td class="left">{escape(one.name)}</td><td>{number(one.latency.value)}</td>'
        f"<td>{interval(one.latency)}</td>"
        f"<td>{'' if one.accuracy is None else number(one.accuracy)}</td>"
        f"<td>{_better(result, one)}</td><td>{one.params / 1e6:.2f}</td><td>{one.macs / 1e6:.0f}</td></tr>"
        for one in published
    )
    return (
        '<details><summary>Published networks on this device</summary><div class="wide"><table><thead><tr>'
        f'<th class="left">network</th><th>latency ms, {provenance}</th>'
        f"<th>latency interval ms, {provenance}</th>"
        f"<th>accuracy {escape(result.question.accuracy_unit)}, {how}</th>"
        "<th>as fast and as accurate</th><th>params M</th><th>MACs M</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _better(result: SearchResult, published: PublishedNetwork) -> str:
    """The rank of the front's fastest network that the table predicts no slower, and no less accurate."""
    if published.accuracy is None:
        return ""
    ranks = [
        rank
        for rank, one in enumerate(result.front, start=1)
        if one.latency.value <= published.latency.value and one.accuracy.value >= published.accuracy
    ]
    return f"#{ranks[-1]}" if ranks else ""


def networks_section(result: SearchResult) -> str:
    question, verified = result.question, result.is_verified
    rows = "".join(
        f"<tr><td>{rank}</td>{_measured_cells(candidate) if verified else ''}"
        f"<td>{candidate.latency.value:#.4g}</td><td>{with_deviation(candidate.accuracy)}</td>"
        f'<td class="left">{escape(", ".join(candidate.attentions) or "none")}</td>'
        f'<td class="left"><code>{escape(candidate.id)}</code></td><td>{interval(candidate.latency)}</td>'
        f"<td>{candidate.params / 1e6:.2f}</td><td>{candidate.macs / 1e6:.0f}</td></tr>"
        for rank, candidate in enumerate(result.front, start=1)
    )
    provenance = escape(question.provenance)
    latency, reach = f"latency ms, {provenance}", f"latency interval ms, {provenance}"
    if verified:
        latency, reach = f"predicted ms, {provenance} table", f"predicted interval ms, {provenance} table"
    run = "RUN" if result.path is None else str(result.path)
    first = shlex.quote(f"{run}#1")
    commands = (
        f"hwnas describe {first} --device {shlex.quote(question.device)}\n"
        f"hwnas export {first} --out model.onnx\nhwnas train {first} --data FOLDER"
    )
    return (
        '<section id="networks"><h2>Networks, best accuracy first</h2>'
        '<div class="wide"><table><thead><tr><th>#</th>'
        f"{'<th>measured ms</th><th>measured interval ms</th>' if verified else ''}"
        f"<th>{latency}</th>"
        f"<th>accuracy {escape(question.accuracy_unit)}, estimated</th>"
        '<th class="left">attention</th><th class="left">id</th>'
        f"<th>{reach}</th>"
        "<th>params M</th><th>MACs M</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="soft">No network here has another one here that is as fast and as accurate. '
        f"What next:</p><pre><code>{escape(commands)}</code></pre></section>"
    )


def shown_latency(result: SearchResult, candidate: Candidate) -> Estimate:
    """The latency that the page goes by: the measured one, once the front is verified."""
    if result.is_verified and candidate.measured is not None:
        return candidate.measured
    return candidate.latency


def _how(result: SearchResult) -> str:
    return "measured now" if result.is_verified else result.question.provenance


def _measured_cells(candidate: Candidate) -> str:
    if candidate.measured is None:
        return "<td></td><td></td>"
    return f"<td>{candidate.measured.value:#.4g}</td><td>{interval(candidate.measured)}</td>"
