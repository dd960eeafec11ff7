"""A comparison of runs as one HTML page and as plain data."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import Any

from hwnas.report.charts import Chart, front_chart, progress_chart
from hwnas.report.comparison import Comparison
from hwnas.report.dimensions import dimensions, number, percent, shown, with_deviation, within
from hwnas.report.fronts import Front, FrontView, accuracy_title, axis_title, front_marks
from hwnas.report.model import Table
from hwnas.report.page import render
from hwnas.report.progress import box_text
from hwnas.search.run import SearchResult
from hwnas.search.trial import Candidate
from hwnas.space.outline import outline

__all__ = ["comparison_document", "comparison_html", "over_seeds"]

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Page:
    """What the page says, in its order."""

    title: str
    bounds: str
    notes: tuple[str, ...]
    spread: str
    fronts: tuple[tuple[str, str], ...]
    """The name of each chart of fronts, and its heading; empty where there is one."""
    hypervolumes: Table | None
    """None when no run evaluated anything."""
    hypervolume_note: str
    coverage: Table
    networks: Table
    networks_sentence: str
    settings: Table


def comparison_html(known: Comparison) -> str:
    """The whole page; it loads nothing from elsewhere."""
    *names, last = (one.name for one in known.runs)
    fronts = _fronts(known)
    charts = {chart.name: chart for _, chart in fronts}
    if known.box is not None:
        chart = progress_chart({one.name: one.progress for one in known.runs})
        charts[chart.name] = chart
    networks = _networks(known)
    alone = ", ".join(f"{len(one.only_here)} only on that of {one.name}" for one in known.runs)
    page = _Page(
        title=f"{', '.join(names)} and {last}",
        bounds="; ".join(dict.fromkeys(within(one.result.config) for one in known.runs)),
        notes=known.notes,
        spread=over_seeds(known),
        fronts=tuple((chart.name, heading) for heading, chart in fronts),
        hypervolumes=_hypervolumes(known),
        hypervolume_note=""
        if known.box is None
        else "Of all evaluated networks, with the accuracy less one standard deviation, in parts of "
        f"{box_text(known.box, known.runs[0].result.config)}, the same for all runs. {known.lowest:.4f} is "
        "what every run reached.",
        coverage=_coverage(known),
        networks=networks,
        networks_sentence=f"{len(known.common)} of {len(networks.rows)} networks are on all fronts, {alone}.",
        settings=Table(
            ("setting", *(one.name for one in known.runs)),
            tuple((name, *values) for name, values in known.settings.items()),
            left=tuple(range(len(known.runs) + 1)),
        ),
    )
    return render("compare.html", charts=charts, page=page)


def over_seeds(known: Comparison) -> str:
    """Mean and standard deviation over runs that differ in their seed only; empty for other runs."""
    if set(known.settings) != {"seed"}:
        return ""
    finals = [one.progress.final for one in known.runs]
    best = [one.result.front[0].accuracy.value for one in known.runs if one.result.front]
    unit = known.runs[0].result.config.accuracy_unit
    text = (
        f"Over {len(finals)} seeds the hypervolume is {statistics.mean(finals):.4f} ± "
        f"{statistics.stdev(finals):.2g}"
    )
    if len(best) == len(finals):
        text += (
            f", the best accuracy {number(statistics.mean(best))} ± {statistics.stdev(best):.2g} {unit}"
        ).rstrip() + " estimated"
    return f"{text} (mean and standard deviation over the runs)."


def comparison_document(known: Comparison) -> dict[str, Any]:
    """Plain data: what `hwnas compare --json` prints."""
    first = known.runs[0].result.config
    minimised = [one for one in dimensions(first) if one.minimised]
    return {
        "schema": FORMAT_VERSION,
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


def _fronts(known: Comparison) -> list[tuple[str, Chart]]:
    """A chart with the fronts of all runs for each dimension, after its heading."""
    first = known.runs[0].result
    minimised = [one for one in dimensions(first.config) if one.minimised]
    charts = []
    for place, dimension in enumerate(minimised):
        fronts, bounds = [], dict[tuple[float, str], None]()
        for run in known.runs:
            own = [one for one in dimensions(run.result.config) if one.minimised][place]
            marks = [
                replace(mark, name="", low=None, high=None, left=None, right=None, rank=0,
                        label=f"{run.name} {mark.label}")
                for mark in front_marks(run.result, own)
            ]  # fmt: skip
            fronts.append(Front(run.name, marks))
            if own.limit is not None:
                bounds[(own.limit, own.bound)] = None
        view = FrontView(
            fronts=fronts,
            bounds=tuple(bounds),
            x_title=axis_title(first, dimension),
            accuracy_title=accuracy_title(first),
        )
        several = len(minimised) > 1
        heading = f"Accuracy and {dimension.noun}{dimension.place}" if several else ""
        charts.append((heading, front_chart(view, name=f"front-{place}" if several else "front")))
    return charts


def _hypervolumes(known: Comparison) -> Table | None:
    if known.box is None:
        return None
    headings = (
        "run",
        "evaluated",
        "on its front",
        "on the front of all",
        "hypervolume",
        f"after {known.common_evaluations} evaluations",
        f"evaluations until {known.lowest:.4f}",
    )
    rows = tuple(
        (
            one.name,
            str(len(one.result.trials)),
            str(len(one.result.front)),
            str(one.on_joint_front),
            f"{one.progress.final:.4f}",
            f"{one.progress.after(known.common_evaluations):.4f}",
            str(one.progress.first_with(known.lowest)),
        )
        for one in known.runs
    )
    return Table(headings, rows)


def _coverage(known: Comparison) -> Table:
    rows = tuple(
        (
            one.name,
            *("" if at == index or share is None else percent(share) for at, share in enumerate(row)),
        )
        for index, (one, row) in enumerate(zip(known.runs, known.coverage, strict=True))
    )
    return Table(("front of", *(one.name for one in known.runs)), rows)


def _networks(known: Comparison) -> Table:
    """Every network of any front, its rank on each, its numbers."""
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
    rows = tuple(
        (
            outline(candidate.arch),
            *(f"#{own[name]}" if name in own else "" for own in ranks),
            *(number(shown(result, candidate, one).value) for one in minimised),
            with_deviation(candidate.accuracy),
            name,
        )
        for name, (result, candidate) in sorted(
            found.items(), key=lambda item: (-item[1][1].accuracy.value, item[0])
        )
    )
    headings = (
        "network",
        *(one.name for one in known.runs),
        *(one.column for one in minimised),
        f"accuracy {first.config.accuracy_unit}, estimated",
        "id",
    )
    return Table(headings, rows, left=(0, len(headings) - 1))
