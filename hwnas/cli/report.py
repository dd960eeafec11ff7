"""`hwnas report`: the HTML report of a run, written anew from what the run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.common import stdout

__all__ = ["command"]


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that 'hwnas search' wrote.")],
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Write the charts there as well, as PNG and SVG."),
    ] = None,
) -> None:
    """Write the HTML report of a run.

    One file without anything to load from elsewhere: RUN/report.html. With --plots, the charts for a paper,
    too, one column wide.

    Example: hwnas report runs/rpi4-20ms-1 --plots figures
    """
    from hwnas.report import write_plots, write_report

    files = [] if plots is None else write_plots(run, plots)
    for file in (write_report(run), *files):
        stdout().print(str(file), soft_wrap=True, markup=False)
