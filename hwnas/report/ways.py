"""The report's sections on how the search went: hypervolume over evaluations, what the front prefers."""

from __future__ import annotations

from html import escape

import numpy as np

from hwnas.report.bars import legend, paired_rows, stacked
from hwnas.report.chart import Curve, progress_chart
from hwnas.report.choices import Preference, preferences, strongest
from hwnas.report.progress import Points, box_of, progress
from hwnas.report.words import percent
from hwnas.search.run import SearchResult

__all__ = ["choices_section", "points_of", "progress_section"]

OPEN = ("kernels", "width")


def points_of(result: SearchResult) -> Points:
    """All evaluations, in order: latency in ms, and the lower bound of the accuracy."""
    points = [(trial.latency.value, trial.accuracy.lower_bound()) for trial in result.trials]
    return np.array(points, dtype=float).reshape(len(points), 2)


def progress_section(result: SearchResult) -> str:
    """The curve of the hypervolume, and the reference point it is measured against."""
    points = points_of(result)
    box = box_of([points], budget_ms=result.question.budget_ms)
    if box is None:
        return ""
    known = progress(points, box)
    near = known.first_with(0.99 * known.final)
    unit = escape(result.question.accuracy_unit)
    return (
        f'<section id="progress"><h2>How it got there</h2>{progress_chart([Curve("hypervolume", known)])}'
        f"<p>99 % of the final hypervolume was there after {near} of {known.total} evaluations.</p>"
        '<p class="soft">Hypervolume of latency and accuracy (less one standard deviation), in parts of the '
        f"box from {box.fastest_ms:.4g} ms and {box.best_accuracy:.4g} {unit} to the reference point at "
        f"{box.reference_ms:.4g} ms and {box.reference_accuracy:.4g} {unit}: in the end "
        f"{known.final:.4f}.</p></section>"
    )


def choices_section(result: SearchResult) -> str:
    """What the front takes of the space, beside what all evaluated networks take."""
    found = preferences(result)
    if not result.front or not found:
        return ""
    attention = [one for one in found if one.what == "attention"]
    kinds = sorted({share.choice for one in attention for share in one.shares})
    bars = "".join(
        f"<span>stage {one.stage}</span>{stacked({each.choice: each.front for each in one.shares})}"
        f'<span class="soft">all</span>{stacked({each.choice: each.evaluated for each in one.shares})}'
        for one in attention
    )
    said = "; ".join(
        f"{_place(preference)} {share.choice} ({percent(share.front)} of the front, "
        f"{percent(share.evaluated)} of all evaluated)"
        for preference, share in strongest(found)
    )
    parts = [
        '<section id="choices"><h2>What the front chooses</h2>',
        f"<p>More often on the front than among all evaluated networks: {escape(said)}.</p>" if said else "",
    ]
    if attention:
        parts.append(
            "<h3>Attention of the blocks, by stage</h3>"
            '<p class="soft">Above: the front. Below it: all evaluated networks.</p>'
            f'<div class="rows">{bars}</div>{legend(kinds)}'
        )
    for what in dict.fromkeys(one.what for one in found if one.what != "attention"):
        rows = "".join(
            f'<tr><th class="left" colspan="3" scope="rowgroup">{escape(_place(one))}</th></tr>'
            f"{paired_rows(one.shares)}"
            for one in found
            if one.what == what
        )
        parts.append(
            f"<details{' open' if what in OPEN else ''}><summary>{escape(what)}</summary>"
            '<div class="wide"><table class="choices"><thead><tr><th class="left">choice</th>'
            '<th class="left">share</th><th>front / all</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details>"
        )
    return "".join([*parts, "</section>"])


def _place(preference: Preference) -> str:
    return preference.what if preference.stage is None else f"stage {preference.stage} {preference.what}"
