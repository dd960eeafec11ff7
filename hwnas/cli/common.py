"""Options that the verbs share, and where output goes.

Data goes to stdout, everything else to stderr. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from hwnas.cli.narrow import fit
from hwnas.cli.typed import as_typed
from hwnas.errors import HwnasError
from hwnas.text import plain

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
    "shown",
    "stderr",
    "stdout",
    "write_err",
    "write_out",
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
_BEYOND_ASCII = re.compile(r"[\x7f-\x9f\udc80-\udcff]")
"""What JSON need not escape, and a terminal or UTF-8 does not take."""


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


def shown(text: str) -> str:
    """The text as a user may see it: nothing steers the terminal, and commands can be typed here."""
    return as_typed(plain(text))


def write_out(text: str) -> None:
    """Write data to stdout as it is; names and labels in it cannot steer the terminal."""
    sys.stdout.write(shown(text))


def write_err(text: str, *, anew: bool = False) -> None:
    """Write to stderr at once; `anew` overwrites the line that is there."""
    sys.stderr.write(("\r\x1b[K" if anew else "") + shown(text))
    sys.stderr.flush()


def emit_json(document: Mapping[str, Any]) -> None:
    """Print the document, which says `"schema": 1` itself, and nothing else.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    is_utf8 = str(getattr(sys.stdout, "encoding", None)).lower().replace("_", "-") in ("utf-8", "utf8")
    text = json.dumps(document, indent=2, ensure_ascii=not is_utf8, allow_nan=False)
    sys.stdout.write(_BEYOND_ASCII.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def end_with(error: HwnasError) -> NoReturn:
    """Ends a verb whose document is printed already: the error goes to stderr alone."""
    write_err(f"error: {error}\n")
    raise typer.Exit(error.exit_code)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console
    from rich.table import Table

    class PipeConsole(Console):
        """A console that fits tables into its width, shows nothing that steers a terminal, writes commands as
        they can be typed here, and leaves a closed pipe to the command line."""

        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(plain(text), **options)  # as all that is printed, and table cells, are

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
