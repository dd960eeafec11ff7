"""How a benchmark answers: rich tables on the screen, the same figures as JSON in a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hwnas.errors import HwnasError
from hwnas.io.atomic import write_whole


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's own text as its help, and knows --json FILE."""
    made = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON too")
    return made


def grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose first column is words and whose others are figures; None is shown as a dash."""
    table = Table(title=title, title_justify="left", box=None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_shown(cell) for cell in row))
    return table


def answer(document: dict[str, Any], tables: Sequence[Table], json_file: Path | None) -> None:
    """Prints the tables, and writes the document when a file was asked for."""
    console = Console(width=None if sys.stdout.isatty() else 220)
    for table in tables:
        console.print(table)
        console.print()
    if json_file is not None:
        write_whole(json_file, json.dumps({"schema": 1, **document}, indent=1) + "\n")


def say(text: str) -> None:
    """A line about what is going on, on stderr."""
    print(text, file=sys.stderr, flush=True)


def run(main: Callable[[], None]) -> None:
    """Runs a benchmark; a deliberate error is one line and its exit code."""
    try:
        main()
    except HwnasError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _shown(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
