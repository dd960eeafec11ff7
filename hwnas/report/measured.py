"""The report's section on verification: every measured network beside both predictions."""

from __future__ import annotations

from html import escape

from hwnas.report.chart import agreement_chart
from hwnas.report.words import interval
from hwnas.search.output import verification_text
from hwnas.search.run import SearchResult, resume_command

__all__ = ["verification_section"]


def verification_section(result: SearchResult) -> str:
    """What measuring the front said: every network measured, beside both predictions."""
    known = result.verification
    if known is None:
        return ""
    again = "" if result.path is None else f"<code>{escape(resume_command(result.path))} --verify</code>"
    if not known.is_complete:
        told = f"<p>Not finished: {len(known.measured)} networks are measured. Go on: {again}</p>"
    elif not result.is_verified:
        told = (
            f"<p>Of the first {known.candidates} candidates only; the front above is not verified. "
            f"Verify again: {again}</p>"
        )
    else:
        told = f"<p>{escape(verification_text(result))}</p>"
    if known.mismatch:
        told += "<p>It was allowed to measure in another configuration, or elsewhere, than the table.</p>"
    latencies, front = known.latencies, set(known.front)
    rows = "".join(
        f'<tr><td class="left"><code>{escape(one.id)}</code></td><td>{one.round}</td>'
        f"<td>{latencies[one.id].value:#.4g}</td><td>{interval(latencies[one.id])}</td>"
        f"<td>{one.predicted.value:#.4g}</td>"
        f"<td>{100 * (one.predicted.value / latencies[one.id].value - 1):+.1f} %</td>"
        f"<td>{f'{known.corrected[one.id].value:#.4g}' if one.id in known.corrected else ''}</td>"
        f'<td class="left">{"yes" if latencies[one.id].value <= result.question.budget_ms else "no"}</td>'
        f'<td class="left">{"yes" if one.id in front else ""}</td></tr>'
        for one in known.measured
    )
    where = ", ".join(
        f"{name.replace('_', ' ')} {known.profile.get(name)}"
        for name in ("board", "runtime", "runtime_version", "provider", "threads", "batch", "precision")
        if known.profile.get(name) is not None
    )
    chart = agreement_chart(
        [
            (
                one.predicted.value,
                latencies[one.id].value,
                f"{one.id}: predicted {one.predicted.value:#.4g} ms, "
                f"measured {latencies[one.id].value:#.4g} ms",
            )
            for one in known.measured
        ],
        budget_ms=result.question.budget_ms,
        how=f"{result.question.provenance} table",
    )
    return (
        f'<section id="measured"><h2>Measured on the device</h2>{told}{chart if known.measured else ""}'
        f'<p class="soft">{escape(where)}; {escape(known.started)}'
        f"{f' to {escape(known.finished)}' if known.finished else ''}. Each time is the median of fresh "
        "processes.</p><details><summary>All networks measured</summary>"
        '<div class="wide"><table><thead><tr><th class="left">id</th><th>round</th><th>measured ms</th>'
        "<th>interval ms</th><th>predicted ms</th><th>error</th><th>corrected ms</th>"
        '<th class="left">within the budget</th><th class="left">on the front</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )
