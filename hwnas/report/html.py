"""A run as one HTML page, put together from its sections.

The page loads nothing from elsewhere. Everything that comes from a file or a name is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from hwnas.report.dimensions import dimensions, shown, within
from hwnas.report.front import front_section, provenances
from hwnas.report.measured import verification_section
from hwnas.report.networks import networks_section
from hwnas.report.origins import ops_section, provenance_section
from hwnas.report.style import style_sheet
from hwnas.report.ways import choices_section, progress_section
from hwnas.report.words import number, with_deviation
from hwnas.search.run import SearchResult, resume_command

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = ["page", "report_html"]

SECTIONS = {
    "front": "The front",
    "networks": "Networks",
    "measured": "Measured",
    "progress": "How it got there",
    "choices": "Choices",
    "time": "Where the time goes",
    "provenance": "Provenance",
}


def report_html(result: SearchResult, *, tables: Mapping[str, LatencyTable]) -> str:
    """The whole page, with the tables of the run's devices that are at hand, by device.

    Without them there are no published networks and no latencies per op, and it says so.
    """
    sections = {
        "front": front_section(result, tables),
        "networks": networks_section(result),
        "measured": verification_section(result),
        "progress": progress_section(result),
        "choices": choices_section(result),
        "time": ops_section(result, tables),
        "provenance": provenance_section(result, tables),
    }
    links = "".join(f'<a href="#{name}">{SECTIONS[name]}</a> ' for name, text in sections.items() if text)
    return page(
        f"hwnas: {within(result.config)}",
        f'{_head(result)}<nav aria-label="Sections">{links}</nav><main>{"".join(sections.values())}</main>',
    )


def page(title: str, body: str) -> str:
    """A whole document around a body; the title is escaped here, the body is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style_sheet()}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _head(result: SearchResult) -> str:
    config, front = result.config, result.front
    found = dimensions(config)
    facts = {
        "networks evaluated, all within the limits": str(result.evaluated + result.given),
        "networks on the front": str(len(front)),
        "latencies are": provenances(found),
        "accuracies are": f"estimated ({config.accuracy})",
    }
    if front:
        best = front[0]
        facts["best accuracy, estimated"] = f"{with_deviation(best.accuracy)} {config.accuracy_unit}".strip()
        for one in found:
            value = f"{number(one.of(best).value)} {one.unit}"
            if best.measured is not None and result.is_verified and one.name == "latency":
                facts["its latency, measured now"] = f"{number(shown(result, best, one).value)} {one.unit}"
                facts[f"its latency, predicted ({one.provenance} table)"] = value
            else:
                how = f", {one.provenance}" if one.provenance else ""
                facts[f"its {one.noun}{one.place}{how}"] = value
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>" for name, fact in facts.items()
    )
    unfinished = (
        ""
        if result.is_complete
        else f"<p>This run has {result.remaining} candidates. "
        + (f"Go on: <code>{escape(resume_command(result.path))}</code></p>" if result.path else "</p>")
    )
    return (
        f"<header><h1>Vision transformers within {escape(within(config))}</h1>"
        f'<p class="soft">Space {escape(str(config.space.get("name", "")))}, '
        f"sampler {escape(config.sampler)}, seed {config.seed}, {escape(result.started)}</p></header>"
        f"{unfinished}"
        f'<dl class="facts">{cells}</dl>'
    )
