"""`hwnas compare`: several runs side by side, in the terminal, as one HTML file, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.common import JsonOption, emit_json, say, stdout

if TYPE_CHECKING:
    from hwnas.report.comparison import Comparison

__all__ = ["command"]


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="Run directories, e.g. runs/a runs/b."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="HTML file for the comparison.")
    ] = None,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Compare runs even if devices, tables or estimators differ."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare runs with the same targets: samplers, seeds, spaces, budgets.

    Shows the fronts together, the hypervolume against one reference point, the coverage of each front by
    the others, and the settings that differ.
    """
    from hwnas.io.atomic import write_atomically
    from hwnas.report.compare_page import comparison_document, comparison_html
    from hwnas.report.comparison import compare

    known = compare(runs, allow_mismatch=allow_mismatch)
    if out is not None:
        write_atomically(out, comparison_html(known))
    if as_json:
        emit_json(comparison_document(known))
        return
    _show(known)
    if out is not None:
        say(f"Comparison: {out}")


def _show(known: Comparison) -> None:
    from rich.table import Table

    from hwnas.report.compare_page import over_seeds

    console = stdout()
    for note in known.notes:
        say(f"note: {note}")
    table = Table(title="Runs", title_justify="left")
    for heading in ("run", "evaluated", "on its front", "on the front of all", "hypervolume"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    table.add_column(f"after {known.common_evaluations}", justify="right")
    table.add_column(f"evaluations until {known.lowest:.4f}", justify="right")
    for one in known.runs:
        table.add_row(
            one.name,
            str(len(one.result.trials)),
            str(len(one.result.front)),
            str(one.on_joint_front),
            f"{one.progress.final:.4f}",
            f"{one.progress.after(known.common_evaluations):.4f}",
            str(one.progress.first_with(known.lowest)),
        )
    console.print(table)
    if known.box is not None:
        from hwnas.report.progress import box_text

        console.print(
            f"Hypervolumes are in parts of {box_text(known.box, known.runs[0].result.config)}, with the "
            "accuracy less one standard deviation.",
            soft_wrap=True,
        )
    if spread := over_seeds(known):
        console.print(spread, soft_wrap=True)
    covered = Table(title="How much of a column's front a row's front covers", title_justify="left")
    covered.add_column("front of")
    for one in known.runs:
        covered.add_column(one.name, justify="right")
    for index, (one, row) in enumerate(zip(known.runs, known.coverage, strict=True)):
        covered.add_row(
            one.name,
            *("" if at == index or share is None else f"{100 * share:.0f} %" for at, share in enumerate(row)),
        )
    console.print(covered)
    alone = ", ".join(f"{len(one.only_here)} only on that of {one.name}" for one in known.runs)
    console.print(f"Networks: {len(known.common)} on all fronts, {alone}.", soft_wrap=True)
    if known.settings:
        differing = Table(title="Settings that differ", title_justify="left")
        differing.add_column("setting", no_wrap=True)
        for one in known.runs:
            differing.add_column(one.name, overflow="fold")
        for name, values in known.settings.items():
            differing.add_row(name, *values)
        console.print(differing)
