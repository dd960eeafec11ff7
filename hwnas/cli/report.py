"""`hwnas report`: the HTML report of a run, written from what the run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.common import stdout

__all__ = ["command"]


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory of 'hwnas search'.")],
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Also write the charts there, as PNG and SVG."),
    ] = None,
) -> None:
    """Write the HTML report of a run.

    One file that loads nothing: RUN/report.html. With --plots also the charts for a paper, one column wide.

    Example: hwnas report runs/rpi4-20ms-1 --plots figures
    """
    from hwnas.report import write_plots, write_report

    files = [] if plots is None else write_plots(run, plots)
    for file in (write_report(run), *files):
        stdout().print(str(file), soft_wrap=True, markup=False)
