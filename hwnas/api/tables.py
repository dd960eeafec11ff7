"""build_table(): a latency table of this machine or a board, by measuring."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import UsageError
from hwnas.measure.build import build_table as measured_table
from hwnas.measure.networks import exporter_for
from hwnas.measure.plan import Plan, make_plan
from hwnas.measure.remote.hosts import LOCAL, start_link
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.locate import check_name
from hwnas.space import SearchSpace

if TYPE_CHECKING:
    from hwnas.measure.adaptive import Progress

__all__ = ["FURTHER", "build_table", "measure_table"]

FURTHER = 1.25
"""Without a time budget: what measuring may take over the plan's time, for cells whose passes disagree."""


def build_table(
    name: str,
    *,
    host: str = LOCAL,
    minutes: float = 10.0,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    precision: str = "fp32",
    provider: str | None = None,
    space: SearchSpace | str | Path = "default",
    networks: int = 90,
    passes: int = 6,
    seed: int = 0,
    out: str | Path = "latency_tables",
    resume: bool = False,
    progress: Progress = lambda phase, done, total, item: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> LatencyTable:
    """Measures the ops of a space and some whole networks, and writes OUT/NAME.yaml.

        table = hwnas.build_table("my-pi", host="pi@raspberrypi", minutes=10)

    name: the device's name: letters, digits, dots, - and _.
    host: "local", "user@board", or a name of ~/.ssh/config.
    minutes: time budget, exporting included; ops beyond it are filled in by a cost model.
    runtime, threads, batch, precision, provider: the device profile to measure.
    networks: networks used for calibration and for the held-out error.
    passes: fresh processes; each times every network.
    out: folder for NAME.yaml and its raw samples; search finds tables in ./latency_tables.
    resume: continue a build that was stopped.
    progress: called as progress(phase, done, total or 0 if unknown, item).
    say: called with a sentence where other programs disturb the measurement.

    Raises UsageError for wrong options, BoardError when the board cannot be reached, UnstableError when the
    machine is too noisy; what was measured stays, and `resume` continues there.
    """
    check_name(name)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out {folder}: cannot be written: {error.strerror}") from None
    plan = make_plan(
        SearchSpace.load(space) if isinstance(space, str | Path) else space,
        networks=networks,
        passes=passes,
        minutes=minutes,
        measure_all=True,
        seed=seed,
        extra=[],
    )
    unfinished = folder / f"{name}.samples.part"
    table = measure_table(
        plan,
        name=name,
        runtime=runtime,
        threads=threads,
        batch=batch,
        precision=precision,
        provider=provider,
        host=host,
        samples=unfinished,
        resume=resume,
        budget_s=60 * minutes,
        progress=progress,
        say=say,
    )
    table.save(folder / f"{name}.yaml")
    unfinished.replace(folder / f"{name}.samples")
    return table


def measure_table(
    plan: Plan,
    *,
    name: str,
    runtime: str,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None,
    host: str,
    samples: Path,
    resume: bool,
    budget_s: float,
    progress: Progress,
    say: Callable[[str], None],
) -> LatencyTable:
    """The table of a plan, measured on `host`; every cell is in `samples` at once."""
    exporter = exporter_for(runtime, precision)
    from hwnas.export.timing import one_thread

    with one_thread():
        return measured_table(
            plan,
            name=name,
            runtime=runtime,
            threads=threads,
            batch=batch,
            precision=precision,
            provider=provider,
            exporter=exporter,
            start=start_link(host, runtime, say=say),
            samples=samples,
            created=datetime.date.today().isoformat(),
            resume=resume,
            elsewhere=host != LOCAL,
            budget_s=budget_s,
            progress=progress,
            say=say,
        )
