"""A comparison of runs as one HTML page and as plain data."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any

from hwnas.report.chart import Front, front_chart, key
from hwnas.report.comparison import Comparison
from hwnas.report.curves import Curve, progress_chart
from hwnas.report.dimensions import dimensions, shown, within
from hwnas.report.front import accuracy_title, axis_title, front_marks
from hwnas.report.html import page
from hwnas.report.ways import box_text
from hwnas.report.words import number, percent, with_deviation
from hwnas.search.run import SearchResult
from hwnas.search.trial import Candidate

__all__ = ["comparison_document", "comparison_html"]

SCHEMA = 1


def comparison_html(known: Comparison) -> str:
    """The whole page; it loads nothing from elsewhere."""
    sections = {
        "Fronts": _fronts(known),
        "Hypervolume": _hypervolume(known),
        "Coverage": _coverage(known),
        "Networks": _networks(known),
        "Settings": _settings(known),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a> ' for name in sections)
    *names, last = (one.name for one in known.runs)
    title = f"{', '.join(names)} and {last}"
    notes = "".join(f"<p>{escape(note)}</p>" for note in known.notes)
    body = "".join(
        f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>'
        for name, content in sections.items()
    )
    bounds = dict.fromkeys(within(one.result.config) for one in known.runs)
    return page(
        f"hwnas: {title}",
        f"<header><h1>{escape(title)}</h1>"
        f'<p class="soft">Searches within {escape("; ".join(bounds))}</p></header>{notes}'
        f'<nav aria-label="Sections">{links}</nav><main>{body}</main>',
    )


def comparison_document(known: Comparison) -> dict[str, Any]:
    """Plain data: what `hwnas compare --json` prints."""
    first = known.runs[0].result.config
    minimised = [one for one in dimensions(first) if one.minimised]
    return {
        "schema": SCHEMA,
        "objectives": [*(one.name for one in minimised), "accuracy"],
        "units": [*(one.unit for one in minimised), first.accuracy_unit],
        "best": None if known.box is None else list(known.box.best),
        "reference": None if known.box is None else list(known.box.reference),
        "common_evaluations": known.common_evaluations,
        "runs": [
            {
                "name": one.name,
                "run_dir": str(one.result.path),
                "evaluations": len(one.result.trials),
                "front": [candidate.id for candidate in one.result.front],
                "on_joint_front": one.on_joint_front,
                "only_here": list(one.only_here),
                "hypervolume": one.progress.final,
                "hypervolume_after_common": one.progress.after(known.common_evaluations),
                "evaluations_to_lowest": one.progress.first_with(known.lowest),
            }
            for one in known.runs
        ],
        "common": list(known.common),
        "coverage": [list(row) for row in known.coverage],
        "settings": {name: list(values) for name, values in known.settings.items()},
        "notes": list(known.notes),
    }


def _fronts(known: Comparison) -> str:
    first = known.runs[0].result
    minimised = [one for one in dimensions(first.config) if one.minimised]
    charts = []
    for place, dimension in enumerate(minimised):
        fronts, bounds = [], dict[tuple[float, str], None]()
        for index, run in enumerate(known.runs):
            own = [one for one in dimensions(run.result.config) if one.minimised][place]
            marks = [
                replace(mark, name="", low=None, high=None, left=None, right=None,
                        label=f"{run.name} {mark.label}")
                for mark in front_marks(run.result, own)
            ]  # fmt: skip
            fronts.append(Front(run.name, marks, number=index))
            if own.limit is not None:
                bounds[(own.limit, own.bound)] = None
        if len(minimised) > 1:
            charts.append(f"<h3>Accuracy and {escape(dimension.noun + dimension.place)}</h3>")
        charts.append(
            key([(one.name, one.number) for one in fronts])
            + front_chart(
                fronts=fronts,
                bounds=list(bounds),
                x_title=axis_title(first, dimension),
                accuracy_title=accuracy_title(first),
            )
        )
    return "".join(charts)


def _hypervolume(known: Comparison) -> str:
    if known.box is None:
        return "<p>No run has evaluated anything yet.</p>"
    curves = [Curve(one.name, one.progress, number=index) for index, one in enumerate(known.runs)]
    rows = "".join(
        f'<tr><td class="left">{escape(one.name)}</td><td>{len(one.result.trials)}</td>'
        f"<td>{len(one.result.front)}</td><td>{one.on_joint_front}</td><td>{one.progress.final:.4f}</td>"
        f"<td>{one.progress.after(known.common_evaluations):.4f}</td>"
        f"<td>{one.progress.first_with(known.lowest)}</td></tr>"
        for one in known.runs
    )
    config = known.runs[0].result.config
    return (
        f"{key([(one.name, one.number) for one in curves])}{progress_chart(curves)}"
        '<div class="wide"><table><thead><tr><th class="left">run</th><th>evaluated</th><th>on its front</th>'
        "<th>on the front of all</th><th>hypervolume</th>"
        f"<th>after {known.common_evaluations} evaluations</th>"
        f"<th>evaluations until {known.lowest:.4f}</th></tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="soft">Of all evaluated networks, with the accuracy less one standard deviation, in parts '
        f"of {escape(box_text(known.box, config))}, the same for all runs. {known.lowest:.4f} is what "
        "every run reached.</p>"
    )


def _coverage(known: Comparison) -> str:
    headings = "".join(f"<th>{escape(one.name)}</th>" for one in known.runs)
    rows = "".join(
        f'<tr><td class="left">{escape(one.name)}</td>'
        + "".join(
            "<td></td>" if index == other or share is None else f"<td>{percent(share)}</td>"
            for other, share in enumerate(row)
        )
        + "</tr>"
        for index, (one, row) in enumerate(zip(known.runs, known.coverage, strict=True))
    )
    return (
        f'<div class="wide"><table><thead><tr><th class="left">front of</th>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        "<p class=\"soft\">How much of a column's front a row's front covers: the share of its networks that "
        "some network of the row is as good as in all objectives, equal ones among them (the C-metric of "
        "Zitzler and Thiele; the accuracy less one standard deviation).</p>"
    )


def _networks(known: Comparison) -> str:
    first = known.runs[0].result
    minimised = [
        replace(one, provenance="measured") if first.is_verified and one.name == "latency" else one
        for one in dimensions(first.config)
        if one.minimised
    ]
    found: dict[str, tuple[SearchResult, Candidate]] = {}
    ranks: list[dict[str, int]] = []
    for run in known.runs:
        ranks.append({candidate.id: rank for rank, candidate in enumerate(run.result.front, start=1)})
        for candidate in run.result.front:
            found.setdefault(candidate.id, (run.result, candidate))
    rows = []
    for name, (result, candidate) in sorted(
        found.items(), key=lambda item: (-item[1][1].accuracy.value, item[0])
    ):
        places = "".join(f"<td>{f'#{own[name]}' if name in own else ''}</td>" for own in ranks)
        numbers = "".join(f"<td>{number(shown(result, candidate, one).value)}</td>" for one in minimised)
        rows.append(
            f'<tr><td class="left"><code>{escape(name)}</code></td>{places}{numbers}'
            f"<td>{with_deviation(candidate.accuracy)}</td></tr>"
        )
    alone = ", ".join(f"{len(one.only_here)} only on that of {one.name}" for one in known.runs)
    headings = "".join(f"<th>{escape(one.name)}</th>" for one in known.runs)
    unit = escape(first.config.accuracy_unit)
    return (
        f"<p>{len(known.common)} of {len(found)} networks are on all fronts, {escape(alone)}.</p>"
        f"<details><summary>All {len(found)}, with their ranks</summary>"
        f'<div class="wide"><table><thead><tr><th class="left">id</th>{headings}'
        + "".join(f"<th>{escape(one.column)}</th>" for one in minimised)
        + f"<th>accuracy {unit}, estimated</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _settings(known: Comparison) -> str:
    if not known.settings:
        return "<p>The runs were asked the same, in the same versions.</p>"
    headings = "".join(f'<th class="left">{escape(one.name)}</th>' for one in known.runs)
    rows = "".join(
        f'<tr><td class="left">{escape(name)}</td>'
        + "".join(f'<td class="wrap">{escape(value)}</td>' for value in values)
        + "</tr>"
        for name, values in known.settings.items()
    )
    return (
        f'<p class="soft">Only what differs.</p><div class="wide"><table><thead><tr><th class="left">setting'
        f"</th>{headings}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
