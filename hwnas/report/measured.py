"""The report's section on verification: every measured network beside both predictions."""

from __future__ import annotations

from html import escape

from hwnas.report.agreement import Agreement, agreement_chart
from hwnas.report.words import interval, number, percent
from hwnas.search.output import verification_text
from hwnas.search.run import SearchResult, resume_command
from hwnas.search.verify import CALM

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
    disturbed = [one.cpu_share for one in known.measured if one.cpu_share < CALM]
    if disturbed:
        told += (
            f"<p>Other programs took the CPU while {len(disturbed)} of {len(known.measured)} networks were "
            f"measured, which got {percent(min(disturbed))} of it at worst: those times are too long.</p>"
        )
    latencies, front = known.latencies, set(known.front)
    budget_ms = result.config.targets[0].budget_ms
    rows = "".join(
        f'<tr><td class="left"><code>{escape(one.id)}</code></td><td>{one.round}</td>'
        f"<td>{number(latencies[one.id].value)}</td><td>{interval(latencies[one.id])}</td>"
        f"<td>{number(one.predicted.value)}</td>"
        f"<td>{100 * (one.predicted.value / latencies[one.id].value - 1):+.1f} %</td>"
        f"<td>{number(known.corrected[one.id].value) if one.id in known.corrected else ''}</td>"
        f"<td>{percent(one.cpu_share)}</td>"
        f'<td class="left">{"yes" if latencies[one.id].value <= budget_ms else "no"}</td>'
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
            Agreement(
                latencies[one.id].value,
                one.predicted.value,
                known.corrected[one.id].value if one.id in known.corrected else None,
                f"{one.id}: measured {number(latencies[one.id].value)} ms",
            )
            for one in known.measured
        ],
        budget_ms=result.config.targets[0].budget_ms,
        how=f"{result.config.provenance} table",
    )
    return (
        f'<section id="measured"><h2>Measured on the device</h2>{told}{chart if known.measured else ""}'
        f'<p class="soft">{escape(where)}; {escape(known.started)}'
        f"{f' to {escape(known.finished)}' if known.finished else ''}. Each time is the median of fresh "
        "processes.</p><details><summary>All networks measured</summary>"
        '<div class="wide"><table><thead><tr><th class="left">id</th><th>round</th><th>measured ms</th>'
        "<th>interval ms</th><th>predicted ms</th><th>error</th><th>corrected ms</th>"
        "<th>share of the CPU</th>"
        '<th class="left">within the budget</th><th class="left">on the front</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )
