"""Building a measured table: plan -> cells -> rows, calibration, held-out error -> LatencyTable."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import plugins
from hwnas.errors import BoardError, MissingPackageError, UnstableError, UsageError
from hwnas.measure.cells import Bench, Timing, passes_of, timings
from hwnas.measure.models import Models
from hwnas.measure.plan import Plan
from hwnas.measure.remote.link import Link
from hwnas.measure.samples import Journal
from hwnas.predictors.latency.calibration import Calibration, compose, fit_calibration
from hwnas.predictors.latency.fill import FillModel, fit_fill
from hwnas.predictors.latency.heldout import CROSS_VALIDATION, HeldOut, HeldOutNetwork
from hwnas.predictors.latency.pace import Pace, fit_pace
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Row
from hwnas.space.ops import OpSpec, lower

if TYPE_CHECKING:
    from hwnas.export.timing import Exporter

__all__ = [
    "MeasuredCells",
    "Progress",
    "build_table",
    "make_table",
    "measure_plan",
    "measured_profile",
    "network_pace",
]

DISTURBED_LIMIT = 0.1
"""A build in which more of the cells stay disturbed is unstable."""
NOISE_LIMIT = 0.05
"""A build whose whole networks differ more than this between processes, in the median, is unstable."""

Progress = Callable[[str, int, int, str], None]
"""Told (what is going on, done, of how many - 0 when nobody knows -, of what)."""


@dataclass(frozen=True, slots=True)
class MeasuredCells:
    """What a plan's cells took, over all passes."""

    timings: Mapping[str, Timing]
    """By op key or network label."""
    pace: Pace | None
    """How fast the machine was while whole networks were timed."""
    failures: Mapping[str, str]
    """Cells that did not run, and what the runtime said."""


def build_table(
    plan: Plan,
    *,
    name: str,
    runtime: str,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None = None,
    exporter: Exporter,
    start: Callable[[], Link],
    samples: Path,
    created: str,
    resume: bool = False,
    elsewhere: bool = False,
    progress: Progress = lambda what, done, total, of: None,
    sleep: Callable[[float], None] = time.sleep,
) -> LatencyTable:
    """Measures all cells of the plan and makes the table; every cell is in `samples` at once.

    `elsewhere`: what `start` leads to is another machine than this one, and has its CPU for itself.
    Raises UsageError when `samples` holds another build, BoardError when the agent is gone,
    UnstableError when the machine is too noisy; what was measured stays in `samples`, and the same
    call with `resume` goes on there.
    """
    profile, environment = measured_profile(
        start, runtime=runtime, threads=threads, batch=batch, precision=precision, provider=provider
    )
    measured = measure_plan(
        plan,
        name=name,
        profile=profile,
        exporter=exporter,
        start=start,
        samples=samples,
        resume=resume,
        elsewhere=elsewhere,
        progress=progress,
        sleep=sleep,
    )
    return make_table(
        plan,
        measured.timings,
        name=name,
        profile=profile,
        environment=environment,
        created=created,
        pace=measured.pace,
        failures=measured.failures,
    )


def measure_plan(
    plan: Plan,
    *,
    name: str,
    profile: DeviceProfile,
    exporter: Exporter,
    start: Callable[[], Link],
    samples: Path,
    resume: bool = False,
    elsewhere: bool = False,
    progress: Progress = lambda what, done, total, of: None,
    sleep: Callable[[float], None] = time.sleep,
) -> MeasuredCells:
    """Measures all cells of the plan, as part of a device called `name`; arguments as of `build_table`.

    Models are exported before the first timing, or `elsewhere` beside it. Raises as `build_table` does.
    """
    question = {
        "name": name,
        **dataclasses.asdict(profile),
        "plan": plan.digest,
        "passes": plan.passes,
        "seed": plan.seed,
    }
    folder = samples.with_name(f".{name}.models")
    with Journal(samples, question, resume=resume) as journal:
        models = Models(plan, exporter, profile.batch, folder, deflate=elsewhere)
        networks = {label for label, _ in plan.networks + plan.watched}
        total = plan.cells
        bench = Bench(journal, start, models, networks.__contains__, profile, sleep=sleep)
        seen = {(record["pass"], record["cell"]) for record in journal.records}
        again = 0

        def report(number: int, cell: str, attempt: int) -> None:
            nonlocal again
            if attempt:
                again += 1
                progress("measuring what was disturbed again", again, 0, cell)
            else:
                seen.add((number, cell))
                progress("measuring", len(seen), total, cell)

        if not elsewhere:
            models.export(lambda done, total, of: progress("exporting", done, total, of))
        with models.exported_meanwhile(_missing(plan, seen)) if elsewhere else contextlib.nullcontext():
            # Twice: a calm late pass may show that cells of an earlier one were disturbed after all. The
            # second round has nothing to do where none was.
            for number in [*range(plan.passes), *range(plan.passes)]:
                bench.report = functools.partial(report, number)
                bench.run_pass(number, plan.order(number))
        measured = timings(journal.records, networks.__contains__)
        pace = network_pace(journal.records, networks.__contains__)
    _refuse_noise(plan, measured)
    shutil.rmtree(folder, ignore_errors=True)
    return MeasuredCells(measured, pace, bench.failures)


def _missing(plan: Plan, seen: Collection[tuple[int, str]]) -> list[str]:
    """The cells that are still to be timed, in the order in which they will be."""
    return [
        name for number in range(plan.passes) for name in plan.order(number) if (number, name) not in seen
    ]


def measured_profile(
    start: Callable[[], Link],
    *,
    runtime: str,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None = None,
) -> tuple[DeviceProfile, dict[str, Any]]:
    """The profile that measuring here would have, and the environment; asks a fresh agent.

    `provider` is the runtime's default when it is None. Raises MissingPackageError when the runtime is
    not there, UsageError when it lacks the provider, BoardError when the agent is not there.
    """
    link = start()
    try:
        answer = link.hello()
    finally:
        link.close()
    if "error" in answer:
        raise BoardError(f"the runtime '{runtime}' does not start: {answer['error']}")
    found, environment = answer["runtime"], dict(answer["environment"])
    if found.get("missing"):
        raise MissingPackageError(f"the runtime '{runtime}' is not there: {found['missing']}")
    board = environment.get("board")
    cpu = environment.get("cpu")
    words = ", ".join(str(part) for part in (board, cpu) if part) or "unknown board"
    wanted = _provider(runtime, provider)
    if wanted is not None and wanted not in found["providers"]:
        raise UsageError(
            f"the runtime must have the provider that is asked for, got --provider {provider} and {runtime} "
            f"{found['version']} with {', '.join(found['providers'])} ({words}). Install a package of it "
            "that has one (docs/boards.md for a Jetson), or leave --provider out"
        )
    profile = DeviceProfile(
        board=words,
        runtime=runtime,
        runtime_version=str(found["version"]),
        provider=wanted or str(found.get("provider", "cpu")),
        threads=threads,
        batch=batch,
        precision=precision,
    )
    return profile, environment


def _provider(runtime: str, provider: str | None) -> str | None:
    """A provider as the runtime itself calls it, so that two names are not two profiles."""
    if provider is None or runtime not in plugins.names("runtimes"):
        return provider
    known: Mapping[str, str] = getattr(plugins.load("runtimes", runtime), "PROVIDERS", {})
    return known.get(provider, provider)


def make_table(
    plan: Plan,
    measured: Mapping[str, Timing],
    *,
    name: str,
    profile: DeviceProfile,
    environment: Mapping[str, Any],
    created: str,
    pace: Pace | None = None,
    failures: Mapping[str, str] | None = None,
) -> LatencyTable:
    """The table from timed cells: rows, what is filled in, calibration, held-out error."""
    failures = failures or {}
    ops = [op for op in plan.ops if op.key in measured]
    if not ops:
        raise UsageError("no op could be measured: " + "; ".join(failures.values()))
    rows = {op.key: _row(measured[op.key]) for op in ops}
    fill: FillModel | None = None
    to_fill = [*plan.filled, *(op for op in plan.ops if op.key in failures)]
    if to_fill:
        fill = fit_fill(ops, [rows[op.key].ms for op in ops])
        rows |= {op.key: _filled_row(fill, op) for op in to_fill}
    known = [(label, arch) for label, arch in plan.networks if label in measured]
    calibration, heldout = Calibration(), HeldOut()
    if len(known) >= 4:
        fitted = fit_calibration(
            [compose(lower(arch), lambda op: rows[op.key].ms) for _, arch in known],
            [measured[label].ms for label, _ in known],
            smallest_op_ms=min(row.ms for row in rows.values()),
        )
        calibration = fitted.calibration
        sample = {label for label, _ in plan.drawn}
        heldout = HeldOut(
            tuple(
                HeldOutNetwork(label, measured[label].ms, left_out_ms)
                for (label, _), left_out_ms in zip(known, fitted.left_out_ms, strict=True)
                if label in sample
            ),
            method=CROSS_VALIDATION,
        )
    notes = [
        "Each op was timed as a model of its own; a network is its calibrated sum. Calibrated on "
        f"{len(known)} whole networks; the error is of the {len(heldout)} among them that were drawn at "
        "random, each predicted by a calibration without it."
    ]
    if fill is not None:
        notes.append(
            f"{len(to_fill)} rows are filled in by a cost model fitted on the measured rows of their kind."
        )
    if failures:
        notes.append(f"{len(failures)} cells did not run: " + ", ".join(sorted(failures)))
    return LatencyTable(
        name=name,
        profile=profile,
        provenance="measured",
        rows=rows,
        calibration=calibration,
        heldout=heldout,
        environment=environment,
        measurement=_measurement(plan, measured, pace, fill),
        notes=tuple(notes),
        created=created,
    )


def network_pace(records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]) -> Pace | None:
    """How fast the machine was while whole networks were timed."""
    return fit_pace(
        [(record["median_ms"], record["companion_ms"]) for record, _ in passes]
        for name, passes in passes_of(records, is_network).items()
        if is_network(name)
    )


def _measurement(
    plan: Plan, measured: Mapping[str, Timing], pace: Pace | None, fill: FillModel | None
) -> dict[str, Any]:
    """How it was measured, and the noise that was seen."""
    networks = [measured[label].spread for label, _ in plan.networks if label in measured]
    ops = [measured[op.key].spread for op in plan.ops if op.key in measured]
    facts: dict[str, Any] = {
        "passes": plan.passes,
        "seed": plan.seed,
        "plan": plan.digest,
        "disturbed_cells": sum(timing.disturbed for timing in measured.values()),
        "op_spread_percent": _percent(ops),
        "network_spread_percent": _percent(networks),
    }
    facts["companion"] = plan.companion[0]
    if pace is not None:
        facts["pace"] = list(pace.coefficients)
    if fill is not None:
        facts["fill_error_percent"] = {kind or "other": 100 * error for kind, error in fill.errors.items()}
    return facts


def _percent(spreads: Sequence[float]) -> float | None:
    return 100 * float(np.median(spreads)) if spreads else None


def _refuse_noise(plan: Plan, measured: Mapping[str, Timing]) -> None:
    disturbed = sum(timing.disturbed for timing in measured.values())
    share = disturbed / max(len(measured), 1)
    spreads = [measured[label].spread for label, _ in plan.networks if label in measured]
    noise = float(np.median(spreads)) if spreads and plan.passes > 1 else 0.0
    if share > DISTURBED_LIMIT:
        raise UnstableError(
            f"at most {DISTURBED_LIMIT:.0%} of the cells may be disturbed, but {disturbed} of "
            f"{len(measured)} were, also when measured again: other programs, heat or clock changes. "
            "End what disturbs and go on"
        )
    if noise > NOISE_LIMIT:
        raise UnstableError(
            f"whole networks may differ by {NOISE_LIMIT:.0%} between processes, the median differs by "
            f"{noise:.1%}: end other programs, or fix the CPU governor, and build again"
        )


def _row(timing: Timing) -> Row:
    return Row(
        ms=timing.ms,
        low_ms=min(timing.passes_ms),
        high_ms=max(timing.passes_ms),
        p95_ms=timing.p95_ms,
        disturbed=timing.disturbed,
    )


def _filled_row(fill: FillModel, op: OpSpec) -> Row:
    value, error = fill.predict_ms(op)
    return Row(ms=value, low_ms=value / (1 + error), high_ms=value * (1 + error), filled=True)
