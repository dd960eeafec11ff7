"""The report's sections on what each op takes and on where every number comes from."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from hwnas.report.bars import legend, op_bar, op_rows
from hwnas.search.run import SearchResult, resume_command
from hwnas.space.ops import lower

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

__all__ = ["ops_section", "provenance_section"]


def ops_section(result: SearchResult, table: LatencyTable | None) -> str:
    provenance = escape(result.question.provenance)
    if table is None:
        return (
            '<section id="time"><h2>Where the time goes</h2>'
            "<p>The latency table this run used is not at hand, or has changed since: no latencies per op. "
            "'hwnas devices' lists the tables that are.</p></section>"
        )
    details, kinds, besides = [], dict[str, None](), list[float]()
    most_ms = max((candidate.latency.value for candidate in result.front), default=1.0)
    for rank, candidate in enumerate(result.front, start=1):
        lowered = lower(candidate.arch)
        shares_ms, rest_ms = table.shares_ms(lowered)
        ops = list(zip(lowered, shares_ms, strict=True))
        besides.append(rest_ms)
        kinds |= dict.fromkeys(op.kind for op, _ in ops)
        details.append(
            f"<details><summary>#{rank} <code>{escape(candidate.id)}</code> "
            f"{candidate.latency.value:#.4g} ms {provenance}"
            f"{op_bar(ops, rest_ms=rest_ms, most_ms=most_ms)}</summary>"
            '<div class="wide"><table><thead><tr><th class="left">op</th><th class="left">key</th>'
            f"<th>ms, {provenance}</th><th></th></tr></thead>"
            f"<tbody>{op_rows(ops)}</tbody></table></div></details>"
        )
    offset = f" and up to {max(besides):.3g} ms besides them" if any(besides) else ""
    return (
        f'<section id="time"><h2>Where the time goes, {provenance}</h2>'
        '<p class="soft">Each bar is a network, all on one scale, cut into its ops in the order they '
        f"run; a latency is "
        f"their sum{offset}. Open one for the ops.</p>{legend(sorted(kinds))}{''.join(details)}</section>"
    )


def provenance_section(result: SearchResult, table: LatencyTable | None) -> str:
    question = result.question
    facts = {
        "device": question.device,
        "latency table": f"{question.provenance}, digest {question.table_digest}",
        "budget": f"{question.budget_ms:g} ms"
        + ("" if question.confidence is None else f" with probability {question.confidence:g}"),
        "accuracy estimator": question.accuracy,
        "search space": f"{question.space.get('name', '')} (in full in run.yaml)",
        "sampler, engine, seed": f"{question.sampler}, {question.engine}, {question.seed}",
        "candidates": f"{len(result.trials)} of {result.trials_wanted}",
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "started": result.started,
    }
    if result.path is not None:
        facts["resume"] = resume_command(result.path)
    rows = "".join(
        f'<tr><td class="left">{escape(name)}</td><td class="wrap">{escape(fact)}</td></tr>'
        for name, fact in facts.items()
    )
    notes = "" if table is None else "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    about = f'<p>What to know about this table:</p><ul class="soft">{notes}</ul>' if notes else ""
    return (
        '<section id="provenance"><h2>Where this comes from</h2>'
        f"<table><tbody>{rows}</tbody></table>{about}</section>"
    )
