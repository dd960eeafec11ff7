"""Building a measured table: plan -> cells -> rows, calibration, held-out error -> LatencyTable."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import plugins
from hwnas.errors import BoardError, MissingPackageError, UnstableError, UsageError
from hwnas.latency.cells import COMPANION_CELL, Bench, Timing, passes_of, timings
from hwnas.latency.heldout import CROSS_VALIDATION, HeldOut, HeldOutNetwork
from hwnas.latency.journal import Journal
from hwnas.latency.link import Link
from hwnas.latency.plan import Plan
from hwnas.latency.profile import DeviceProfile
from hwnas.latency.speed import Pace, fit_pace
from hwnas.latency.table import LatencyTable, Row
from hwnas.predictors.latency.calibration import Calibration, compose, fit_calibration
from hwnas.predictors.latency.fill import FillModel, fit_fill
from hwnas.space.ops import OpSpec, lower

if TYPE_CHECKING:
    from hwnas.nn.formats import Exporter

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
    progress: Progress = lambda what, done, total, of: None,
    sleep: Callable[[float], None] = time.sleep,
) -> LatencyTable:
    """Measures all cells of the plan and makes the table; every cell is in `samples` at once.

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
    progress: Progress = lambda what, done, total, of: None,
    sleep: Callable[[float], None] = time.sleep,
) -> MeasuredCells:
    """Measures all cells of the plan, as part of a device called `name`; raises as `build_table` does."""
    question = {
        "name": name,
        **dataclasses.asdict(profile),
        "plan": plan.digest,
        "passes": plan.passes,
        "seed": plan.seed,
    }
    folder = samples.with_name(f".{name}.models")
    with Journal(samples, question, resume=resume) as journal:
        models = _Models(plan, exporter, profile.batch, folder)
        models.export_all(lambda done, total, of: progress("exporting", done, total, of))
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
    not there, BoardError when the agent is not.
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
    words = [str(part) for part in (board, cpu) if part]
    profile = DeviceProfile(
        board=", ".join(words) or "unknown board",
        runtime=runtime,
        runtime_version=str(found["version"]),
        provider=_provider(runtime, provider) or str(found.get("provider", "cpu")),
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


class _Models:
    """Models of the cells by name, exported once, kept as files until the table is made."""

    def __init__(self, plan: Plan, exporter: Exporter, batch: int, folder: Path) -> None:
        self._ops = {op.key: op for op in plan.ops}
        self._networks = dict(plan.networks + plan.watched) | {COMPANION_CELL: plan.companion[1]}
        self._exporter, self._batch, self._folder = exporter, batch, folder

    def export_all(self, report: Callable[[int, int, str], None]) -> None:
        """Exports before anything is timed, so that exporting disturbs no timing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        names = [*self._ops, *self._networks]
        for done, name in enumerate(names, start=1):
            self._file(name)
            report(done, len(names), name)
        os.sync()  # or the disk is still busy when timing begins

    def __call__(self, name: str) -> bytes:
        return self._file(name).read_bytes()

    def _file(self, name: str) -> Path:
        path = self._folder / hashlib.sha256(f"{self._batch} {name}".encode()).hexdigest()
        if not path.exists():
            if name in self._ops:
                model = self._exporter.op_model(self._ops[name], batch=self._batch)
            else:
                batch = 1 if name == COMPANION_CELL else self._batch
                model = self._exporter.network_model(self._networks[name], batch=batch)
            beside = path.with_suffix(".part")
            beside.write_bytes(model)
            beside.replace(path)
        return path
