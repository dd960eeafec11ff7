"""A run as one HTML page: front, networks, what each op takes, what the front chooses, provenance.

The page loads nothing from elsewhere. Everything that comes from a file or a name is escaped.
"""

from __future__ import annotations

import shlex
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from hwnas.predictors.estimate import Estimate
from hwnas.report.bars import choice_bars, legend, op_bar, op_rows, stacked
from hwnas.report.chart import Mark, front_chart
from hwnas.report.style import style_sheet
from hwnas.search.candidate import Candidate
from hwnas.search.output import verification_text
from hwnas.search.run import SearchResult, resume_command
from hwnas.space.ops import lower
from hwnas.space.presets import presets

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

__all__ = ["report_html"]


def report_html(result: SearchResult, *, table: LatencyTable | None) -> str:
    """The whole page. Without a table there are no presets and no latencies per op, and it says so."""
    question = result.question
    title = f"{question.device} within {question.budget_ms:g} ms"
    body = [
        _head(result),
        _front_section(result, table),
        _networks_section(result),
        _verification_section(result),
        _choices_section(result),
        _ops_section(result, table),
        _provenance_section(result, table),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>hwnas: {escape(title)}</title><style>{style_sheet()}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
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
        facts["best accuracy, estimated"] = f"{_accuracy(best.accuracy)} {question.accuracy_unit}".strip()
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


def _front_section(result: SearchResult, table: LatencyTable | None) -> str:
    question = result.question
    unit = f" ({question.accuracy_unit})" if question.accuracy_unit else ""
    marks = [
        Mark(
            _shown(result, candidate).value,
            candidate.accuracy.value,
            f"#{rank} {candidate.id}: {_shown(result, candidate).value:#.4g} ms {_how(result)}, "
            f"accuracy {_accuracy(candidate.accuracy)} estimated",
            low=candidate.accuracy.value - candidate.accuracy.std,
            high=candidate.accuracy.value + candidate.accuracy.std,
        )
        for rank, candidate in enumerate(result.front, start=1)
    ]
    chart = front_chart(
        candidates=[(trial.latency.value, trial.accuracy.value) for trial in result.trials],
        front=marks,
        presets=_preset_marks(result, table),
        budget_ms=question.budget_ms,
        latency_title=f"latency, {question.provenance} (ms)"
        if not result.is_verified
        else f"latency: the front measured now, the rest by the {question.provenance} table (ms)",
        accuracy_title=f"accuracy, estimated{unit}",
    )
    return (
        f"<section><h2>The front</h2>{chart}"
        '<p class="soft">Dots on the line: the front, with one standard deviation of the accuracy. '
        "Faint: all evaluated networks (the worst twentieth may lie below the chart). Diamonds: published "
        f"networks, at their latency {escape(question.provenance)} on this device and "
        f"{_preset_words(result)}.</p></section>"
    )


def _preset_words(result: SearchResult) -> str:
    if _is_published(result):
        return "their published ImageNet-1K top-1 accuracy"
    return "the accuracy estimated in this run; those that it did not evaluate are left out"


def _is_published(result: SearchResult) -> bool:
    return result.question.accuracy == "published"


def _preset_marks(result: SearchResult, table: LatencyTable | None) -> list[Mark]:
    """Published networks beside the front: on one scale with it, or not at all."""
    if table is None:
        return []
    from hwnas.errors import MissingOpError

    evaluated = {trial.id: trial.accuracy.value for trial in result.trials}
    marks = []
    for name, preset in presets().items():
        accuracy = preset.imagenet_top1_percent if _is_published(result) else evaluated.get(preset.arch.id)
        try:
            latency_ms = table.predict(preset.arch).value
        except MissingOpError:
            continue
        if accuracy is not None:
            how = "published" if _is_published(result) else "estimated"
            label = (
                f"{name}: {latency_ms:#.4g} ms {result.question.provenance}, accuracy {accuracy:#.4g} {how}"
            )
            marks.append(Mark(latency_ms, accuracy, label))
    return marks


def _networks_section(result: SearchResult) -> str:
    question, verified = result.question, result.is_verified
    rows = "".join(
        f"<tr><td>{rank}</td>{_measured_cells(candidate) if verified else ''}"
        f"<td>{candidate.latency.value:#.4g}</td><td>{_accuracy(candidate.accuracy)}</td>"
        f'<td class="left">{escape(", ".join(candidate.attentions) or "none")}</td>'
        f'<td class="left"><code>{escape(candidate.id)}</code></td><td>{_interval(candidate.latency)}</td>'
        f"<td>{candidate.params / 1e6:.2f}</td><td>{candidate.macs / 1e6:.0f}</td></tr>"
        for rank, candidate in enumerate(result.front, start=1)
    )
    provenance = escape(question.provenance)
    latency, interval = f"latency ms, {provenance}", f"latency interval ms, {provenance}"
    if verified:
        latency, interval = f"predicted ms, {provenance} table", f"predicted interval ms, {provenance} table"
    run = "RUN" if result.path is None else str(result.path)
    first = shlex.quote(f"{run}#1")
    commands = (
        f"hwnas describe {first} --device {shlex.quote(question.device)}\n"
        f"hwnas export {first} --out model.onnx\nhwnas train {first} --data FOLDER"
    )
    return (
        '<section><h2>Networks, best accuracy first</h2><div class="wide"><table><thead><tr><th>#</th>'
        f"{'<th>measured ms</th><th>measured interval ms</th>' if verified else ''}"
        f"<th>{latency}</th>"
        f"<th>accuracy {escape(question.accuracy_unit)}, estimated</th>"
        '<th class="left">attention</th><th class="left">id</th>'
        f"<th>{interval}</th>"
        "<th>params M</th><th>MACs M</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="soft">No network here has another one here that is as fast and as accurate. '
        f"What next:</p><pre><code>{escape(commands)}</code></pre></section>"
    )


def _verification_section(result: SearchResult) -> str:
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
        f"<td>{latencies[one.id].value:#.4g}</td><td>{_interval(latencies[one.id])}</td>"
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
    return (
        f"<section><h2>Measured on the device</h2>{told}"
        f'<p class="soft">{escape(where)}; {escape(known.started)}'
        f"{f' to {escape(known.finished)}' if known.finished else ''}. Each time is the median of fresh "
        "processes.</p><details><summary>All networks measured</summary>"
        '<div class="wide"><table><thead><tr><th class="left">id</th><th>round</th><th>measured ms</th>'
        "<th>interval ms</th><th>predicted ms</th><th>error</th><th>corrected ms</th>"
        '<th class="left">within the budget</th><th class="left">on the front</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _shown(result: SearchResult, candidate: Candidate) -> Estimate:
    """The latency that the page goes by: the measured one, once the front is verified."""
    if result.is_verified and candidate.measured is not None:
        return candidate.measured
    return candidate.latency


def _how(result: SearchResult) -> str:
    return "measured now" if result.is_verified else result.question.provenance


def _measured_cells(candidate: Candidate) -> str:
    if candidate.measured is None:
        return "<td></td><td></td>"
    return f"<td>{candidate.measured.value:#.4g}</td><td>{_interval(candidate.measured)}</td>"


def _choices_section(result: SearchResult) -> str:
    """Which attention each stage has on the front, beside all candidates' front-independent counts."""
    archs = [candidate.arch for candidate in result.front]
    if not archs:
        return ""
    rows, kinds = [], dict[str, None]()
    for index in range(max(len(arch.stages) for arch in archs)):
        stages = [arch.stages[index] for arch in archs if index < len(arch.stages)]
        counter = Counter(
            "none" if block is None else block.type for stage in stages for block in stage.blocks
        )
        total = sum(counter.values()) or 1
        shares = {name: number / total for name, number in sorted(counter.items())}
        kinds |= dict.fromkeys(shares)
        rows.append(f"<span>stage {index + 1}</span>{stacked(shares)}")
    counts = [("resolution", Counter(str(arch.resolution) for arch in archs))]
    for index in range(max(len(arch.stages) for arch in archs)):
        stages = [arch.stages[index] for arch in archs if index < len(arch.stages)]
        for name in ("width", "depth", "ffn_ratio", "layout"):
            counter = Counter(str(getattr(stage, name)) for stage in stages)
            counts.append((f"stage {index + 1}, {name.replace('_', ' ')}", counter))
    return (
        "<section><h2>What the front chooses</h2><p>Attention of the blocks, by stage.</p>"
        f'<div class="rows">{"".join(rows)}</div>{legend(sorted(kinds))}'
        '<details><summary>Widths, depths and the rest</summary><div class="wide"><table><tbody>'
        f"{choice_bars(counts)}</tbody></table></div></details></section>"
    )


def _ops_section(result: SearchResult, table: LatencyTable | None) -> str:
    provenance = escape(result.question.provenance)
    if table is None:
        return (
            "<section><h2>Where the time goes</h2><p>The latency table this run used is not at hand, or has "
            "changed since: no latencies per op. 'hwnas devices' lists the tables that are.</p></section>"
        )
    details, kinds, besides = [], dict[str, None](), list[float]()
    for rank, candidate in enumerate(result.front, start=1):
        lowered = lower(candidate.arch)
        shares_ms, rest_ms = table.shares_ms(lowered)
        ops = list(zip(lowered, shares_ms, strict=True))
        besides.append(rest_ms)
        kinds |= dict.fromkeys(op.kind for op, _ in ops)
        details.append(
            f"<details><summary>#{rank} <code>{escape(candidate.id)}</code> "
            f"{candidate.latency.value:#.4g} ms {provenance}{op_bar(ops)}</summary>"
            '<div class="wide"><table><thead><tr><th class="left">op</th><th class="left">key</th>'
            f"<th>ms, {provenance}</th><th></th></tr></thead>"
            f"<tbody>{op_rows(ops)}</tbody></table></div></details>"
        )
    offset = f" and up to {max(besides):.3g} ms besides them" if any(besides) else ""
    return (
        f"<section><h2>Where the time goes, {provenance}</h2>"
        '<p class="soft">Each bar is a network, cut into its ops in the order they run; a latency is '
        f"their sum{offset}. Open one for the ops.</p>{legend(sorted(kinds))}{''.join(details)}</section>"
    )


def _provenance_section(result: SearchResult, table: LatencyTable | None) -> str:
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
    return f"<section><h2>Where this comes from</h2><table><tbody>{rows}</tbody></table>{about}</section>"


def _accuracy(estimate: Estimate) -> str:
    return f"{estimate.value:#.4g}" + (f" ± {estimate.std:.2g}" if estimate.std else "")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.4g} to {estimate.high:.4g}"
