"""The report's section on the front's networks: a table with every number of each, and what to run next."""

from __future__ import annotations

import shlex
from dataclasses import replace
from html import escape

from hwnas.report.dimensions import Dimension, dimensions
from hwnas.report.words import interval, number, with_deviation
from hwnas.search.run import SearchResult
from hwnas.search.trial import Candidate

__all__ = ["networks_section"]

SIZES = ("params", "macs")
"""Dimensions that have a column of their own in every run."""

LONG = 30
"""A table of more networks scrolls by itself."""


def networks_section(result: SearchResult) -> str:
    """The front as a table: best accuracy first, one row a network."""
    config, verified = result.config, result.is_verified
    found = [one for one in dimensions(config) if one.name not in SIZES]
    columns = [
        replace(one, noun="predicted", provenance=f"{one.provenance} table")
        if verified and one.device
        else one
        for one in found
    ]
    timed = [one for one in columns if one.device]
    headings = [
        "<th>#</th>",
        "<th>measured ms</th><th>measured interval ms</th>" if verified else "",
        *(f"<th>{escape(one.column)}</th>" for one in columns),
        f"<th>accuracy {escape(config.accuracy_unit)}, estimated</th>",
        '<th class="left">attention</th><th class="left">id</th>',
        *(f"<th>{escape(replace(one, noun=f'{one.noun} interval').column)}</th>" for one in timed),
        "<th>params M</th><th>MACs M</th>",
    ]
    rows = "".join(
        _row(rank, candidate, columns, timed, verified=verified)
        for rank, candidate in enumerate(result.front, start=1)
    )
    run = "RUN" if result.path is None else str(result.path)
    first = shlex.quote(f"{run}#1")
    commands = (
        f"hwnas describe {first} --device {shlex.quote(config.devices[0])}\n"
        f"hwnas export {first} --out model.onnx\nhwnas train {first} --data FOLDER"
    )
    several = len(config.minimised) > 1
    better = "at least as good in every objective" if several else "as fast and as accurate"
    return (
        '<section id="networks"><h2>Networks, best accuracy first</h2>'
        f'<div class="wide{" long" if len(result.front) > LONG else ""}"><table><thead><tr>'
        f"{''.join(headings)}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="soft">No network here has another one here that is {better}. '
        f"What next:</p><pre><code>{escape(commands)}</code></pre></section>"
    )


def _row(
    rank: int, candidate: Candidate, columns: list[Dimension], timed: list[Dimension], *, verified: bool
) -> str:
    measured = candidate.measured
    cells = [f"<td>{rank}</td>"]
    if verified:
        cells.append(
            "<td></td><td></td>"
            if measured is None
            else f"<td>{number(measured.value)}</td><td>{interval(measured)}</td>"
        )
    cells += [f"<td>{number(one.of(candidate).value)}</td>" for one in columns]
    cells += [
        f"<td>{with_deviation(candidate.accuracy)}</td>",
        f'<td class="left">{escape(", ".join(candidate.attentions) or "none")}</td>',
        f'<td class="left"><code>{escape(candidate.id)}</code></td>',
    ]
    cells += [f"<td>{interval(one.of(candidate))}</td>" for one in timed]
    cells.append(f"<td>{candidate.params / 1e6:.2f}</td><td>{candidate.macs / 1e6:.0f}</td>")
    return f"<tr>{''.join(cells)}</tr>"
