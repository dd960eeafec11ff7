"""A run as one HTML page, put together from its sections.

The page loads nothing from elsewhere. Everything that comes from a file or a name is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from hwnas.report.measured import verification_section
from hwnas.report.networks import front_section, networks_section
from hwnas.report.origins import ops_section, provenance_section
from hwnas.report.style import style_sheet
from hwnas.report.ways import choices_section, progress_section
from hwnas.report.words import with_deviation
from hwnas.search.run import SearchResult, resume_command

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

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


def report_html(result: SearchResult, *, table: LatencyTable | None) -> str:
    """The whole page. Without a table there are no presets and no latencies per op, and it says so."""
    question = result.question
    sections = {
        "front": front_section(result, table),
        "networks": networks_section(result),
        "measured": verification_section(result),
        "progress": progress_section(result),
        "choices": choices_section(result),
        "time": ops_section(result, table),
        "provenance": provenance_section(result, table),
    }
    links = "".join(f'<a href="#{name}">{SECTIONS[name]}</a> ' for name, text in sections.items() if text)
    return page(
        f"hwnas: {question.device} within {question.budget_ms:g} ms",
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
    question, front = result.question, result.front
    facts = {
        "networks evaluated, all within the budget": str(len(result.trials)),
        "networks on the front": str(len(front)),
        "latencies are": question.provenance,
        "accuracies are": f"estimated ({question.accuracy})",
    }
    if front:
        best = front[0]
        facts["best accuracy, estimated"] = (
            f"{with_deviation(best.accuracy)} {question.accuracy_unit}".strip()
        )
        if best.measured is not None and result.is_verified:
            facts["its latency, measured now"] = f"{best.measured.value:#.4g} ms"
            facts[f"its latency, predicted ({question.provenance} table)"] = f"{best.latency.value:#.4g} ms"
        else:
            facts[f"its latency, {question.provenance}"] = f"{best.latency.value:#.4g} ms"
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(fact)}</dd></div>" for name, fact in facts.items()
    )
    unfinished = (
        ""
        if result.is_complete
        else f"<p>This run has {len(result.trials)} of {result.trials_wanted} candidates. "
        + (f"Go on: <code>{escape(resume_command(result.path))}</code></p>" if result.path else "</p>")
    )
    return (
        f"<header><h1>Vision transformers for {escape(question.device)} within {question.budget_ms:g} ms</h1>"
        f'<p class="soft">Space {escape(str(question.space.get("name", "")))}, '
        f"sampler {escape(question.sampler)}, seed {question.seed}, {escape(result.started)}</p></header>"
        f"{unfinished}"
        f'<dl class="facts">{cells}</dl>'
    )
