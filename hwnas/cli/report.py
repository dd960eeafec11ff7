"""`hwnas report`: the HTML report of a run or a training, written from what it recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas import plugins
from hwnas.cli.common import stdout
from hwnas.cli.search_output import note_unchecked
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.search import SearchResult

__all__ = ["command"]


def command(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|TRAINED",
            help="Run directory, e.g. runs/rpi4-20ms-1, or folder of a training, e.g. trainings/uniform-t-1.",
        ),
    ],
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="FOLDER", help="Folder for the charts as PNG and SVG."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images of a training: predict its val images again for the confusion matrix.",
        ),
    ] = None,
) -> None:
    """Write the HTML report of a run or a training.

    The report is one file, RUN/report.html, that loads nothing else. The report of a training shows loss,
    accuracy, confusion matrix and sample predictions. --plots also writes the charts for a paper, one column
    wide.
    """
    from hwnas.report import is_training, write_plots, write_report, write_training_report

    if plots is not None:  # before anything is written
        plugins.require("vl_convert", extra="plots")
    images = None
    if data is not None:
        from hwnas.cli.training import require_packages

        if not is_training(run):
            raise UsageError(f"--data is for the report of a training; {run} is not the folder of one")
        require_packages()
        from hwnas.data.sources import open_images

        images = open_images(data)
    what: SearchResult | Path = run
    if is_training(run):
        report = write_training_report(run, images)
    else:
        from hwnas.search import load_run

        what = load_run(run)
        note_unchecked(what)
        report = write_report(what)
    files = [] if plots is None else write_plots(what, plots)
    for file in (report, *files):
        stdout().print(str(file), soft_wrap=True, markup=False)
