"""Options that the verbs share, and where output goes.

Data goes to stdout, everything else to stderr. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hwnas.cli.narrow import fit
from hwnas.cli.typed import as_typed
from hwnas.errors import HwnasError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ArchArgument",
    "DeviceOption",
    "HostOption",
    "JsonOption",
    "OverBudgetOption",
    "emit_json",
    "end_with",
    "say",
    "stderr",
    "stdout",
]

ArchArgument = Annotated[
    str,
    typer.Argument(
        metavar="ARCH",
        help="Preset, gallery:NAME, architecture file (YAML), RUN#2 (second network of a run's front), "
        "RUN#ID, or checkpoint.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="Device, e.g. rpi4 ('hwnas devices' lists them), or a table file."
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="HOST",
        help="Board, e.g. pi@raspberrypi or a name of ~/.ssh/config; local is this machine.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", allow_from_autoenv=False, help="Print one JSON document only."),
]
OverBudgetOption = Annotated[
    str,
    typer.Option(
        "--over-budget",
        metavar="stop|ok",
        help="What to do when a changed network exceeds the latency budget of its run: stop or ok (go on).",
    ),
]

_WIDTH_OFF_TERMINAL = 160


# --- where output goes -----------------------------------------------------------------------


def stdout() -> Console:
    """The console for data. Off a terminal it is wide, so that no column is cut."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress and messages; still off a terminal."""
    return _console(stderr=True)


def say(text: str) -> None:
    """Tell the user what goes on; never cut, never on stdout."""
    stderr().print(text, soft_wrap=True)


def emit_json(document: Mapping[str, Any]) -> None:
    """Print the document, which says `"schema": 1` itself, and nothing else.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    is_utf8 = str(getattr(sys.stdout, "encoding", None)).lower().replace("_", "-") in ("utf-8", "utf8")
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not is_utf8, allow_nan=False) + "\n")


def end_with(error: HwnasError) -> NoReturn:
    """Ends a verb whose document is printed already: the error goes to stderr alone."""
    sys.stderr.write(f"error: {as_typed(str(error))}\n")
    raise typer.Exit(error.exit_code)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console
    from rich.table import Table

    class PipeConsole(Console):
        """A console that fits tables into its width, writes commands as they can be typed here, and leaves a
        closed pipe to the command line."""

        def print(self, *objects: Any, **options: Any) -> None:
            for one in objects:
                if isinstance(one, Table):
                    fit(one, self.width)
            super().print(*(as_typed(one) if isinstance(one, str) else one for one in objects), **options)

        def on_broken_pipe(self) -> None:
            raise

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH_OFF_TERMINAL
    return PipeConsole(stderr=stderr, width=wide, highlight=False, markup=False, emoji=False)
