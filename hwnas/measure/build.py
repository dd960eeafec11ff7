"""Building a measured table: plan -> cells -> rows, calibration, held-out error -> LatencyTable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import plugins
from hwnas.errors import BoardError, MissingPackageError, UsageError
from hwnas.measure.adaptive import Progress, measure_plan
from hwnas.measure.cells import Timing
from hwnas.measure.noise import noise_of
from hwnas.measure.plan import GRAPH, Plan
from hwnas.measure.remote.link import Link
from hwnas.predictors.latency.calibration import Calibration, compose, fit_calibration
from hwnas.predictors.latency.fill import FillModel, fit_fill
from hwnas.predictors.latency.heldout import CROSS_VALIDATION, HeldOut, HeldOutNetwork
from hwnas.predictors.latency.pace import Pace
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Row
from hwnas.space.ops import OpSpec, lower
from hwnas.types import Floats

if TYPE_CHECKING:
    from hwnas.export.timing import Exporter

__all__ = ["build_table", "make_table", "measured_profile"]


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
    budget_s: float | None = None,
    progress: Progress = lambda phase, done, total, item: None,
    say: Callable[[str], None] = lambda sentence: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> LatencyTable:
    """Measures the cells of the plan and makes the table; every cell is in `samples` at once.

    `elsewhere`: what `start` leads to is another machine than this one, and has its CPU for itself.
    `budget_s` is what measuring may take: within it, cells whose passes disagree are timed again; without,
    the plan's passes are all there is. `say` gets a sentence where other programs use the CPU.

    A noisy machine gives a table with its honest error, marked as noisy. Raises UsageError when `samples`
    holds another build, BoardError when the agent is gone, UnstableError when the machine is so noisy that
    the table would be useless; what was measured stays in `samples`, and the same call with `resume` goes
    on there.
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
        budget_s=budget_s,
        progress=progress,
        say=say,
        sleep=sleep,
        clock=clock,
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
            f"the runtime lacks the requested provider {provider}: {runtime} {found['version']} has "
            f"{', '.join(found['providers'])} ({words}). Install a package of it that has {provider} "
            "(docs/boards.md for a Jetson), or leave --provider out"
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
    to_fill = [*plan.filled, *(op for op in plan.ops if op.key not in measured)]
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
            fresh_std=_fresh_std([measured[label] for label, _ in known]),
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


def _measurement(
    plan: Plan, measured: Mapping[str, Timing], pace: Pace | None, fill: FillModel | None
) -> dict[str, Any]:
    """How it was measured, and the noise that was seen."""
    ops = [measured[op.key].spread for op in plan.ops if op.key in measured]
    labels = [label for label, _ in plan.networks]
    errors = [measured[label].error for label in labels if label in measured]
    most = max((len(timing.passes) for timing in measured.values()), default=0)
    facts: dict[str, Any] = {
        "graph": GRAPH,
        "passes": plan.passes,
        "most_passes_of_a_cell": most,
        "seed": plan.seed,
        "plan": plan.digest,
        "op_spread_percent": 100 * float(np.median(ops)) if ops else None,
        **noise_of(measured, labels).facts(),
        "network_error_percent": 100 * float(np.median(errors)) if errors and most > 1 else None,
    }
    facts["reference_network"] = plan.reference[0]
    if pace is not None:
        facts["pace"] = list(pace.coefficients)
    if fill is not None:
        facts["fill_error_percent"] = {kind or "other": 100 * error for kind, error in fill.errors.items()}
    return facts


def _fresh_std(networks: Sequence[Timing]) -> float:
    """By how much one fresh process, by the clock, deviates beyond what the held-out times do; relative.

    A held-out time is a median of passes at the machine's middle speed. What a user measures is one
    process, at the speed that the machine has just then.
    """
    repeated = [timing for timing in networks if len(timing.passes) > 1]
    if not repeated:
        return 0.0
    deviations = [_deviations(timing.clock_passes_ms) for timing in repeated]
    # A few processes are far slower than all others: nine of ten are within the interval of a normal law.
    by_clock = np.quantile(np.abs(np.concatenate(deviations)), 0.9) / _NORMAL_90
    in_heldout = np.mean([timing.error**2 for timing in repeated])
    return float(np.sqrt(max(by_clock**2 - in_heldout, 0.0)))


_NORMAL_90 = 1.645
"""Standard deviations within which nine of ten values of a normal law are."""


def _deviations(passes_ms: Sequence[float]) -> Floats:
    """Of each pass from the middle of all, relative, as large as from the true one; shape (passes,)."""
    logs = np.log(passes_ms)
    return np.asarray((logs - logs.mean()) * np.sqrt(len(logs) / (len(logs) - 1)))


def _row(timing: Timing) -> Row:
    return Row(
        ms=timing.ms,
        low_ms=min(timing.ms, *timing.passes_ms),
        high_ms=max(timing.ms, *timing.passes_ms),
        p95_ms=timing.p95_ms,
        disturbed=timing.disturbed,
    )


def _filled_row(fill: FillModel, op: OpSpec) -> Row:
    value, error = fill.predict_ms(op)
    return Row(ms=value, low_ms=value / (1 + error), high_ms=value * (1 + error), filled=True)
