"""What the verbs share: how a budget and an architecture are named, where output goes.

Data goes to stdout, everything else to stderr. Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.narrow import fit
from hwnas.errors import UsageError, did_you_mean
from hwnas.paths import is_text

if TYPE_CHECKING:
    from rich.console import Console

    from hwnas.space import ArchSpec

__all__ = [
    "ArchArgument",
    "DeviceOption",
    "HostOption",
    "JsonOption",
    "emit_json",
    "parse_budget_ms",
    "parse_throughput",
    "resolve_arch",
    "say",
    "stderr",
    "stdout",
]

ArchArgument = Annotated[
    str,
    typer.Argument(
        metavar="ARCH",
        help="A preset's name, an architecture file (YAML), RUN#2 for the second network of a run's "
        "front, RUN#ID, or a checkpoint.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="A device, as 'hwnas devices' lists them, or a table's file."
    ),
]
HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        metavar="HOST",
        help="The board: user@board or a name of ~/.ssh/config; 'local' is this machine.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", allow_from_autoenv=False, help="Print one JSON document and nothing else."),
]

_MS_PER_UNIT = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_WIDTH_OFF_TERMINAL = 160


# --- what a user types -----------------------------------------------------------------------


def parse_budget_ms(text: str) -> float:
    """Milliseconds from a number with a unit: '20ms', '0.02s', '800us'.

    Raises UsageError for a bare number, an unknown unit, and what is not finite and positive.
    """
    rule = "a budget is a positive number with a unit (us, ms or s), such as 20ms"
    match = re.fullmatch(
        r"\s*([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf|infinity))\s*([^\s0-9.]*)\s*", text, re.I
    )
    if match is None:
        raise UsageError(f"{rule}; got '{text}'")
    number, unit = match.groups()
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"{rule}; got '{text}'") from None
    if not unit:
        raise UsageError(f"{rule}; got '{text}' without a unit: did you mean {text.strip()}ms?")
    if unit not in _MS_PER_UNIT:
        raise UsageError(f"{rule}; got '{text}' with the unknown unit '{unit}'")
    budget_ms = value * _MS_PER_UNIT[unit]
    if not math.isfinite(budget_ms) or budget_ms <= 0:
        raise UsageError(f"{rule}; got '{text}'")
    return budget_ms


def parse_throughput(text: str) -> float:
    """Images per second from `40000/s`. Raises UsageError for anything else."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+]?[0-9]+)?)\s*(k?)\s*/\s*s\s*", text, re.I)
    try:
        value = float(match[1]) * (1000 if match[2] else 1) if match else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"a throughput is a positive number of images per second, 40000/s; got '{text}'")
    return value


def resolve_arch(text: str) -> tuple[str, ArchSpec]:
    """The architecture that a command's ARCH names, and a short name for it.

    `text` is a preset's name, an architecture file (YAML), `RUN#2` for the second network of a
    run's front (1 is the best), `RUN#ID` with an id or its beginning, or a checkpoint.

    Raises UsageError when nothing goes by that name; ArchError and FileFormatError when the file
    that it names is wrong.
    """
    from hwnas.space import ArchSpec, preset, preset_names

    known = preset_names()
    if text in known:
        return text, preset(text)
    run, mark, which = text.rpartition("#")
    if mark and not Path(text).exists():
        return _arch_of_run(Path(run), which)
    path = Path(text)
    if is_text(path):
        from hwnas.io import yaml as yaml_io

        return path.stem, ArchSpec.from_dict(yaml_io.read(path), source=str(path))
    if path.exists():
        return _arch_of_checkpoint(path)
    if path.suffix.lower() in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        raise UsageError(f"no file {text}: an architecture is a preset, a YAML file, RUN#2 or a checkpoint")
    raise UsageError(
        f"no architecture '{text}'.{did_you_mean(text, known)} "
        "It may be a preset ('hwnas models' lists them), a YAML file, RUN#2 or a checkpoint"
    )


def _arch_of_run(folder: Path, which: str) -> tuple[str, ArchSpec]:
    from hwnas.search import load_run

    front = load_run(folder).front
    if not front:
        raise UsageError(f"{folder}: this run's front is empty, there is no network '{which}' on it")
    name = f"{folder.name}#{which}"
    if which.isdecimal() and len(which) < 4:
        if not 1 <= int(which) <= len(front):
            raise UsageError(f"{folder}: the front has {len(front)} networks, 1 is the best, got #{which}")
        return name, front[int(which) - 1].arch
    found = [candidate for candidate in front if which and candidate.id.startswith(which)]
    if len(found) == 1:
        return name, found[0].arch
    if found:
        ids = ", ".join(candidate.id for candidate in found)
        raise UsageError(f"{folder}: '{which}' begins {len(found)} ids of the front; give more of it: {ids}")
    hint = did_you_mean(which, [candidate.id for candidate in front])
    raise UsageError(
        f"{folder}: no '{which}' on the front.{hint} Give a number from 1 to {len(front)}, 1 is the best, "
        "or the beginning of an id"
    )


def _arch_of_checkpoint(path: Path) -> tuple[str, ArchSpec]:
    if path.is_dir() and (path / "run.yaml").exists():
        raise UsageError(f"{path} is a run: name one of its networks, such as '{path}#1'")
    from hwnas.train import checkpoint

    arch: ArchSpec = checkpoint.load(path).arch
    return path.stem, arch


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


def _console(*, stderr: bool) -> Console:
    from rich.console import Console
    from rich.table import Table

    class PipeConsole(Console):
        """A console that fits tables into its width, and leaves a closed pipe to the command line."""

        def print(self, *objects: Any, **options: Any) -> None:
            for one in objects:
                if isinstance(one, Table):
                    fit(one, self.width)
            super().print(*objects, **options)

        def on_broken_pipe(self) -> None:
            raise

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or os.environ.get("COLUMNS") else _WIDTH_OFF_TERMINAL
    return PipeConsole(stderr=stderr, width=wide, highlight=False, markup=False, emoji=False)
