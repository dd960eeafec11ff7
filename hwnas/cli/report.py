"""`hwnas report`: the HTML report of a run, written from what the run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.common import stdout
from hwnas.cli.search_output import note_unchecked

__all__ = ["command"]


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, e.g. runs/rpi4-20ms-1.")],
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Folder for the charts as PNG and SVG."),
    ] = None,
) -> None:
    """Write the HTML report of a run.

    The report is one file, RUN/report.html, that loads nothing else. --plots also writes the charts for a
    paper, one column wide.
    """
    from hwnas.report import write_plots, write_report
    from hwnas.search import load_run

    result = load_run(run)
    note_unchecked(result)
    files = [] if plots is None else write_plots(result, plots)
    for file in (write_report(result), *files):
        stdout().print(str(file), soft_wrap=True, markup=False)
