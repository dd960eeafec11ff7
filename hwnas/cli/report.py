"""`hwnas report`: the HTML report of a run, written anew from what the run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.common import stdout

__all__ = ["command"]


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that 'hwnas search' wrote.")],
) -> None:
    """Write the HTML report of a run.

    One file without anything to load from elsewhere: RUN/report.html.

    Example: hwnas report runs/rpi4-20ms-1
    """
    from hwnas.report import write_report

    stdout().print(str(write_report(run)), soft_wrap=True, markup=False)
