"""What `hwnas table build` and `hwnas table transfer` have in common: options, names, progress, what next."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.common import stderr, stdout, write_err
from hwnas.errors import FileFormatError, HwnasError, UsageError

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = [
    "BatchOption",
    "DryRunOption",
    "OutOption",
    "PrecisionOption",
    "Progress",
    "ProviderOption",
    "RuntimeOption",
    "SpaceOption",
    "ThreadsOption",
    "build_and_save",
    "check_writable",
    "duration",
    "summary",
]

RuntimeOption = Annotated[
    str, typer.Option(help="Runtime, e.g. onnxruntime, openvino, ncnn, litert or torch.")
]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Number of threads.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Batch size.")]
PrecisionOption = Annotated[str, typer.Option(help="Numeric precision, fp32 or int8.")]
ProviderOption = Annotated[
    str | None,
    typer.Option(help="Execution provider, e.g. cuda. Default: the runtime's own."),
]
SpaceOption = Annotated[str, typer.Option(help="Search space: a YAML file or a name.")]
OutOption = Annotated[Path, typer.Option(help="Folder for NAME.yaml and its raw samples.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and exit.")]


class Progress:
    """One line that is written over on a terminal; a line now and then elsewhere.

    `budget_s` is what the work may take at most: the line says how much of it is left.
    """

    def __init__(self, budget_s: float | None = None) -> None:
        self._ends = None if budget_s is None else time.monotonic() + budget_s
        self._started: dict[str, tuple[float, int]] = {}
        self._shown = 0.0

    def __call__(self, what: str, done: int, total: int, of: str) -> None:
        now = time.monotonic()
        start, first = self._started.setdefault(what, (now, done - 1))
        live = sys.stderr.isatty()
        if now - self._shown < (0.2 if live else 15.0):
            return
        self._shown = now
        line = f"{what}: {done}"
        if total:
            left_s = (now - start) / max(done - first, 1) * (total - done)
            line += f" of {total}, about {duration(left_s)} left"
        if self._ends is not None:
            line += f", {duration(max(self._ends - now, 0.0))} of --minutes left"
        line += f": {of}"
        write_err(line[:110] if live else line + "\n", anew=live)

    def end(self) -> None:
        """Leaves the line that is written over."""
        if sys.stderr.isatty():
            write_err("", anew=True)


def build_and_save(
    name: str,
    out: Path,
    build: Callable[[Path, Progress], LatencyTable],
    *,
    budget_s: float | None = None,
) -> None:
    """Writes `out`/`name`.yaml and its samples, and says so; `build` gets the path of the samples.

    Where it is stopped while it measures, says how to go on. `budget_s` is what it may take, for the
    progress line.
    """
    target = out / f"{name}.yaml"
    samples = out / f"{name}.samples"
    unfinished = out / f"{name}.samples.part"
    progress = Progress(budget_s)
    try:
        table = build(unfinished, progress)
        table.save(target)
    except (KeyboardInterrupt, HwnasError, OSError) as error:
        if unfinished.exists() and not isinstance(error, UsageError | FileFormatError):
            stderr().print(
                f"The measurements are kept in {unfinished}. Continue with:\n  {_resume_command()}",
                soft_wrap=True,
            )
        raise
    finally:
        progress.end()
    unfinished.replace(samples)
    stdout().print(f"{target}: {summary(table)}")
    for sentence in table.caveats:
        stdout().print(f"Caveat: {sentence}", soft_wrap=True)
    stdout().print(f"Raw samples: {samples}")
    stdout().print(f"Next: hwnas search --device {name} --budget 10ms")


def check_writable(folder: Path) -> None:
    """Finds out before the work that the folder can't be written; raises UsageError."""
    probe = folder / ".hwnas-can-write"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise UsageError(f"--out {folder}: cannot be written: {error.strerror}") from None


def summary(table: LatencyTable) -> str:
    """A table in a line: where it comes from, what it holds, how wrong it was."""
    error = table.heldout.mape_percent
    told = (
        "no held-out networks"
        if error is None
        else f"held-out error {error:.1f} % on {len(table.heldout)} networks"
    )
    rows = len(table.rows) - len(table.filled)
    content = f"{rows} measured and {len(table.filled)} filled rows" if table.rows else "coefficients"
    return f"{table.provenance}, {content}, {told}"


def duration(seconds: float) -> str:
    """As `40 s` or `3.5 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _resume_command() -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return shlex.join(["hwnas", *arguments, "--resume"])
