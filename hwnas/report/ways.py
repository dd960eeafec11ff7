"""The report's sections on how the search went: hypervolume over evaluations, what the front prefers."""

from __future__ import annotations

from html import escape

import numpy as np

from hwnas.report.bars import legend, paired_rows, stacked
from hwnas.report.choices import Preference, preferences, strongest
from hwnas.report.curves import Curve, progress_chart
from hwnas.report.dimensions import dimensions
from hwnas.report.progress import Box, Points, box_of, progress
from hwnas.report.words import percent
from hwnas.search.config import SearchConfig
from hwnas.search.run import SearchResult

__all__ = ["box_text", "choices_section", "limits_of", "points_of", "progress_section"]

OPEN = ("kernels", "width")


def points_of(result: SearchResult) -> Points:
    """All evaluations, in order: what is minimised, in the report's units, and the accuracy's lower bound."""
    minimised = [one for one in dimensions(result.config) if one.minimised]
    points = [
        [*(trial.number(one.name) / one.per_unit for one in minimised), trial.accuracy.lower_bound()]
        for trial in result.trials
    ]
    return np.array(points, dtype=float).reshape(len(points), len(minimised) + 1)


def limits_of(config: SearchConfig) -> list[float | None]:
    """The limit of each minimised dimension, in the report's units."""
    return [one.limit for one in dimensions(config) if one.minimised]


def box_text(box: Box, config: SearchConfig) -> str:
    """From where to where a box reaches, in words."""
    units = [one.unit for one in dimensions(config) if one.minimised] + [config.accuracy_unit]
    best, reference = (
        "; ".join(f"{value:.4g} {unit}".strip() for value, unit in zip(corner, units, strict=True))
        for corner in (box.best, box.reference)
    )
    return f"the box from ({best}) to the reference point ({reference})"


def progress_section(result: SearchResult) -> str:
    """The curve of the hypervolume, and the reference point it is measured against."""
    points = points_of(result)
    box = box_of([points], limits=limits_of(result.config))
    if box is None:
        return ""
    known = progress(points, box)
    near = known.first_with(0.99 * known.final)
    minimised = [one.noun + one.place for one in dimensions(result.config) if one.minimised]
    what, note = "evaluations", ""
    if result.epochs:
        what = "recorded networks"
        note = (
            f'<p class="soft">Recorded are the {known.total} networks that survived an epoch, of '
            f"{result.evaluated} evaluated in {len(result.epochs) - 1} epochs.</p>"
        )
    counted = ", counted by points spread evenly over it" if len(minimised) > 1 else ""
    return (
        f'<section id="progress"><h2>How it got there</h2>{progress_chart([Curve("hypervolume", known)])}'
        f"<p>99 % of the final hypervolume was there after {near} of {known.total} {what}.</p>{note}"
        f'<p class="soft">Hypervolume of {escape(", ".join(minimised))} and accuracy (less one standard '
        f"deviation), in parts of {escape(box_text(box, result.config))}{counted}: in the end "
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
