"""The report's sections on what each op takes and on where every number comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from hwnas.report.bars import legend, op_bar, op_rows
from hwnas.report.dimensions import Dimension, dimensions, within
from hwnas.report.front import provenances
from hwnas.report.spread import spread_over
from hwnas.report.words import number
from hwnas.search.run import SearchResult, resume_command
from hwnas.space.ops import lower

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable
    from hwnas.search.trial import Candidate

__all__ = ["ops_section", "provenance_section"]

MOST_BARS = 60
"""Networks times devices whose ops are listed: a front of several objectives may have hundreds."""


def ops_section(result: SearchResult, tables: Mapping[str, LatencyTable]) -> str:
    """A bar for each network and device, cut into ops; opened, the ops' own milliseconds."""
    absent = [device for device in result.config.devices if device not in tables]
    missing = (
        f"<p>The latency table this run used for {escape(', '.join(absent))} is not at hand, or has changed "
        "since: no latencies per op. 'hwnas devices' lists the tables that are.</p>"
        if absent
        else ""
    )
    if not tables:
        return f'<section id="time"><h2>Where the time goes</h2>{missing}</section>'
    timed = [one for one in dimensions(result.config) if one.device in tables]
    devices = list({one.device: one for one in timed}.values())
    chosen = spread_over(len(result.front), max(2, MOST_BARS // len(devices)))
    shares = {
        one.device: [tables[one.device].shares_ms(lower(result.front[index].arch)) for index in chosen]
        for one in devices
    }
    most_ms = {
        device: max((sum(ops) + rest for ops, rest in known), default=1.0) for device, known in shares.items()
    }
    details, kinds = [], dict[str, None]()
    for place, index in enumerate(chosen):
        own = {one: shares[one.device][place] for one in devices}
        kinds |= dict.fromkeys(op.kind for op in lower(result.front[index].arch))
        details.append(_network(index + 1, result.front[index], own, most_ms))
    besides = max((rest for known in shares.values() for _, rest in known), default=0.0)
    offset = f" and up to {besides:.3g} ms besides them" if besides else ""
    some = f" Shown: {len(chosen)} of {len(result.front)}." if len(chosen) < len(result.front) else ""
    scale = "those of a device on one scale" if len(devices) > 1 else "all on one scale"
    title = f"Where the time goes, {provenances(devices)}"
    return (
        f'<section id="time"><h2>{escape(title)}</h2>{missing}'
        f'<p class="soft">Each bar is a network, {scale}, cut into its ops in the order they '
        f"run; a latency is their sum{offset}. Open one for the ops.{some}</p>"
        f"{legend(sorted(kinds))}{''.join(details)}</section>"
    )


def _network(
    rank: int,
    candidate: Candidate,
    shares: Mapping[Dimension, tuple[Sequence[float], float]],
    most_ms: Mapping[str, float],
) -> str:
    """One network: its bar for each device, and its ops as a table with a column for each device."""
    ops = lower(candidate.arch)
    bars = ""
    for one, (known, rest) in shares.items():
        said = f"{number(sum(known) + rest)} ms{escape(one.place)} {escape(one.provenance)}"
        bars += f'<span class="device">{said}</span>' if one.among_devices else f" {said}"
        bars += op_bar(list(zip(ops, known, strict=True)), rest_ms=rest, most_ms=most_ms[one.device])
    headings = "".join(f"<th>ms{escape(one.place)}, {escape(one.provenance)}</th><th></th>" for one in shares)
    return (
        f"<details><summary>#{rank} <code>{escape(candidate.id)}</code>{bars}</summary>"
        '<div class="wide"><table><thead><tr><th class="left">op</th><th class="left">key</th>'
        f"{headings}</tr></thead>"
        f"<tbody>{op_rows(ops, [known for known, _ in shares.values()])}</tbody></table></div></details>"
    )


def provenance_section(result: SearchResult, tables: Mapping[str, LatencyTable]) -> str:
    """Everything that the numbers of the page depend on."""
    config = result.config
    facts = {
        f"latency table of {target.device}": f"{table.provenance}, digest {table.digest}"
        for target, table in zip(config.targets, config.tables, strict=True)
    }
    for device, table in tables.items():
        facts[f"profile of {device}"] = table.profile.sentence()
    for target in config.targets:
        if target.device in tables and (profile := tables[target.device].profile).batch > 1:
            facts[f"budget on {target.device} as throughput"] = (
                f"{profile.images_per_s(target.budget_ms):,.0f} images/s in runs of {profile.batch} images"
            )
    minimised = [one.noun + one.place for one in dimensions(config) if one.minimised]
    facts |= {
        "within": within(config)
        + ("" if config.confidence is None else f" with probability {config.confidence:g}"),
        "minimised": ", ".join(minimised),
        "accuracy estimator": config.accuracy,
        "search space": f"{config.space.get('name', '')} (in full in run.yaml)",
        "sampler, engine, seed": f"{config.sampler}, {config.engine}, {config.seed}",
        "candidates": result.remaining,
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "started": result.started,
    }
    if result.path is not None:
        facts["resume"] = resume_command(result.path)
    rows = "".join(
        f'<tr><td class="left">{escape(name)}</td><td class="wrap">{escape(fact)}</td></tr>'
        for name, fact in facts.items()
    )
    about = "".join(
        f"<p>What to know about the table of {escape(device)}:</p>"
        f'<ul class="soft">{"".join(f"<li>{escape(note)}</li>" for note in _notes(table))}</ul>'
        for device, table in tables.items()
        if _notes(table)
    )
    return (
        '<section id="provenance"><h2>Where this comes from</h2>'
        f"<table><tbody>{rows}</tbody></table>{about}</section>"
    )


def _notes(table: LatencyTable) -> list[str]:
    """What to know about a table: its caveats and notes, and what of its profile is inferred from what."""
    inferred = table.profile.inferred.items()
    return [
        *table.caveats,
        *table.notes,
        *(f"{name} is not stated by the source, inferred: {reason}" for name, reason in inferred),
    ]
