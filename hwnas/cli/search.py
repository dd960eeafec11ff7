"""`hwnas search`: the front of accuracy and latency within a budget, in a run directory."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import DeviceOption, JsonOption, emit_json, parse_budget_ms, stderr, stdout
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.search import Candidate, SearchResult
    from hwnas.search.conduct import Progress

__all__ = ["command"]

ROWS_SHOWN = 20


def command(
    device: DeviceOption = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="The most a network may take: 20ms, 0.02s, 800us."),
    ] = None,
    accuracy: Annotated[
        str | None,
        typer.Option(
            "--accuracy",
            metavar="ESTIMATOR",
            help="Who says how accurate a network is: 'published' (default), or module:function, "
            "a function of an ArchSpec that gives a number or an Estimate.",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", metavar="N", help="Networks to evaluate in total, a resumed run's included (2000)."
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler", metavar="NAME", help="Who proposes networks: auto (default), nsga2, tpe, random."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="The same seed finds the same front (0).")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="P",
            help="Stay within the budget with this probability, such as 0.9, by the table's own error. "
            "Without, the predicted latency itself is within it.",
        ),
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", metavar="FILE", help="The search space: a YAML file, or a name.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run directory (runs/DEVICE-BUDGET-N)."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="DIR", help="Go on with the run in this directory.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Search the networks that fit a budget on a device.

    Latency is predicted from the device's table before anything else is asked of a network, and only
    networks within the budget are evaluated. The result is a run directory: candidates, front, report.

    Example: hwnas search --device rpi4 --budget 20ms
    """
    if trials is not None and trials < 1:
        raise UsageError(f"--trials must be at least 1, got {trials}")
    if seed is not None and seed < 0:
        raise UsageError(f"--seed must be at least 0, got {seed}")
    budget_ms = None if budget is None else parse_budget_ms(budget)
    options: dict[str, Any] = {
        "trials": trials,
        "device": device,
        "accuracy": accuracy,
        "budget_ms": budget_ms,
        "sampler": sampler,
        "seed": seed,
        "confidence": confidence,
        "space": _space(space),
    }
    options = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        if out is not None:
            raise UsageError("--resume names the run directory already: leave --out out")
        result = _resumed(resume, options)
    else:
        result = _new(out, options)
    if json_:
        from hwnas.search import document

        emit_json(document(result))
    else:
        _show(result)


def _space(name: str | None) -> Any:
    if name is None:
        return None
    from hwnas.space.search_space import SearchSpace

    return SearchSpace.from_yaml(name)


def _new(out: Path | None, options: dict[str, Any]) -> SearchResult:
    from hwnas.search import DEFAULT_TRIALS, next_folder, search

    for flag, name, example in (("--device", "device", "rpi4"), ("--budget", "budget_ms", "20ms")):
        if name not in options:
            raise UsageError(f"a search needs {flag}, such as {flag} {example} (or --resume DIR)")
    folder = next_folder(Path("runs"), options["device"], options["budget_ms"]) if out is None else out
    wanted = options.get("trials", DEFAULT_TRIALS)
    return _conducted(
        folder, wanted, lambda progress, stop: search(out=folder, progress=progress, stop=stop, **options)
    )


def _resumed(folder: Path, options: dict[str, Any]) -> SearchResult:
    from hwnas.search import load_run, resume

    wanted = options.get("trials", load_run(folder).trials_wanted)
    return _conducted(
        folder, wanted, lambda progress, stop: resume(folder, progress=progress, stop=stop, **options)
    )


def _conducted(
    folder: Path, wanted: int, work: Callable[[Progress, Callable[[], bool]], SearchResult]
) -> SearchResult:
    """The result of the work, with progress; exits with 130 or 143 when a signal ended it early."""
    from hwnas.report import write_report
    from hwnas.search import resume_command
    from hwnas.search.run import RUN

    messages = stderr()
    signals: list[int] = []
    try:
        with _noting(signals, messages.print), _progress_bar(messages, wanted) as progress:
            result = work(progress, lambda: bool(signals))
    except KeyboardInterrupt:
        if (folder / RUN).exists():
            messages.print(f"Stopped at once. Resume: {resume_command(folder)}", soft_wrap=True, markup=False)
        raise typer.Exit(128 + (signals[-1] if signals else signal.SIGINT)) from None
    write_report(result)
    if signals and not result.is_complete:
        messages.print(
            f"Stopped with {len(result.trials)} of {wanted} candidates, all saved. "
            f"Resume: {resume_command(folder)}",
            soft_wrap=True,
            markup=False,
        )
        raise typer.Exit(128 + signals[0])
    if not result.is_complete and len(result.trials) < wanted:
        messages.print(
            f"The space has no more networks within the budget: all {len(result.trials)} that were found "
            f"are evaluated."
        )
    return result


@contextmanager
def _noting(signals: list[int], say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM is noted in `signals`; the second raises KeyboardInterrupt."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt
        say("Stopping after this candidate and saving. Once more stops at once.")

    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress_bar(messages: Any, wanted: int) -> Iterator[Progress]:
    """Says how far the search is and how long it will take; silent where nobody looks."""
    if not messages.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("searching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=messages, transient=True) as bar:
        task = bar.add_task("searching", total=wanted)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(result: SearchResult) -> None:
    from rich.table import Table

    question, front, path = result.question, result.front, result.path
    assert path is not None
    table = Table(
        title=f"{len(front)} networks within {question.budget_ms:g} ms on {question.device}, "
        f"best of {len(result.trials)} (latency {question.provenance}, accuracy estimated by "
        f"'{question.accuracy}')",
        title_justify="left",
    )
    for header, justify in (
        ("#", "right"),
        ("id", "left"),
        ("attention", "left"),
        (f"latency ms, {question.provenance}", "right"),
        (f"accuracy {question.accuracy_unit}, estimated", "right"),
        ("params M", "right"),
        ("MACs M", "right"),
    ):
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    shown = _spread_over(len(front), ROWS_SHOWN)
    for index in shown:
        table.add_row(str(index + 1), *_cells(front[index]))
    console = stdout()
    console.print(table)
    quoted = shlex.quote(f"{path}#1")
    lines = []
    if len(shown) < len(front):
        lines.append(
            f"Shown: {len(shown)} of {len(front)}; all are in {path / 'front.json'} and in the report."
        )
    lines += [
        f"Report: {path / 'report.html'}",
        "Next:",
        f"  hwnas describe {quoted} --device {shlex.quote(question.device)}",
        f"  hwnas export {quoted} --out model.onnx",
        f"  hwnas train {quoted} --data FOLDER",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _cells(candidate: Candidate) -> Sequence[str]:
    latency, accuracy = candidate.latency, candidate.accuracy
    interval = (
        "" if latency.low is None or latency.high is None else f" ({latency.low:.4g} to {latency.high:.4g})"
    )
    return (
        candidate.id,
        ", ".join(candidate.attentions) or "none",
        f"{latency.value:#.4g}{interval}",
        f"{accuracy.value:#.4g}" + (f" ± {accuracy.std:.2g}" if accuracy.std else ""),
        f"{candidate.params / 1e6:.2f}",
        f"{candidate.macs / 1e6:.0f}",
    )


def _spread_over(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
