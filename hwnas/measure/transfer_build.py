"""A table of a new board, from a few whole networks measured on it and the tables of known boards.

Many networks are drawn from the space. What known tables predict for them and what they consist of goes
to `hwnas.predictors.latency.transfer.model`, with the milliseconds of the few that were measured; it answers
with milliseconds of all. A table is then fitted on those answers as one is on measured networks: the
rows of the known table that explains them best, its calibration anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.errors import UsageError
from hwnas.measure.adaptive import Progress, measure_plan
from hwnas.measure.build import measured_profile
from hwnas.measure.noise import noise_of
from hwnas.measure.plan import GRAPH, Plan, space_ops
from hwnas.measure.remote.link import Link
from hwnas.measure.transfer_candidates import Candidates
from hwnas.predictors.latency.calibration import Composition, Fitted, compose, fit_calibration
from hwnas.predictors.latency.fill import fit_fill
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Row
from hwnas.predictors.latency.transfer.model import fit_transfer
from hwnas.space.ops import OpSpec, lower
from hwnas.space.presets import preset, preset_names
from hwnas.space.search_space import SearchSpace
from hwnas.types import Floats

if TYPE_CHECKING:
    import pandas as pd

    from hwnas.export.timing import Exporter

__all__ = ["FEWEST", "build_transferred", "transfer_table"]

FEWEST = 5
"""Networks that must be measured at least."""
RIDGES = (1e-2, 1e-3, 1e-4)
CACHES_MIB = (0.0, 2.0, 8.0)
"""What the calibration chooses from: as in `calibration.py`, but fewer, since answers of a model have no
noise that would have to be averaged out."""
LEFT_OUT = "each measured network, predicted by a transfer without it"


def build_transferred(
    plan: Plan,
    candidates: Candidates,
    *,
    space: SearchSpace,
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
    progress: Progress = lambda phase, done, total, item: None,
    sleep: Callable[[float], None] = time.sleep,
) -> LatencyTable:
    """Measures the plan's networks on a board and makes its table; every cell is in `samples` at once.

    Raises as `build_table` does, and UsageError where fewer than 5 of the networks run on the board.
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
    if len(measured.timings) < FEWEST and measured.failures:
        raise UsageError(
            f"transfer needs at least {FEWEST} measured networks, but {len(measured.failures)} of "
            f"{len(plan.networks)} do not run: {next(iter(measured.failures.values()))}"
        )
    facts: dict[str, Any] = {
        "graph": GRAPH,
        "passes": plan.passes,
        "seed": plan.seed,
        "plan": plan.digest,
        **noise_of(measured.timings, list(measured.timings)).facts(),
        "reference_network": plan.reference[0],
    }
    if measured.pace is not None:
        facts["pace"] = list(measured.pace.coefficients)
    if measured.failures:
        facts["failures"] = dict(measured.failures)
    return transfer_table(
        candidates,
        {label: timing.ms for label, timing in measured.timings.items()},
        name=name,
        profile=profile,
        space=space,
        created=created,
        environment=environment,
        measurement=facts,
    )


def transfer_table(
    candidates: Candidates,
    measured_ms: Mapping[str, float],
    *,
    name: str,
    profile: DeviceProfile,
    space: SearchSpace,
    created: str,
    environment: Mapping[str, Any] | None = None,
    measurement: Mapping[str, Any] | None = None,
    frames: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    source: str | None = None,
) -> LatencyTable:
    """The table of a device on which these networks, by label, took so many milliseconds.

    It has a row for each op of the space and of the presets. Its interval comes from the measured
    networks, each predicted without itself. `frames` are features and known milliseconds of more rows than
    the candidates: graphs. `source` says where the milliseconds are published; the table is then called
    estimated. Raises UsageError for fewer than 5 networks.
    """
    import pandas as pd

    if len(measured_ms) < FEWEST:
        raise UsageError(f"transfer needs at least {FEWEST} measured networks, got {len(measured_ms)}")
    measured = pd.Series(measured_ms, dtype=float)
    told, known = frames or (candidates.features, candidates.known)
    answers = fit_transfer(told, known, measured).predict(told.index)["value"]
    basis = _best_basis(candidates, answers[list(candidates.archs)], space)
    fitted_ms = {
        label: basis.fitted.calibration.network_ms(basis.compositions[place])
        for place, label in enumerate(candidates.archs)
    }
    heldout = []
    for label in measured.index:
        without = fit_transfer(told, known, measured.drop(label)).predict([label])["value"].iloc[0]
        # What the table makes of an answer: the same with and without one of the networks.
        # It makes nothing of a graph.
        shift = fitted_ms[label] / answers[label] if label in fitted_ms else 1.0
        heldout.append(HeldOutNetwork(label, measured[label], without * shift))
    evidence = HeldOut(tuple(heldout), method=LEFT_OUT)
    reach = evidence.factor(0.9)
    facts = {
        "networks": len(measured),
        "known": [table.name for table in candidates.tables],
        "rows_from": basis.table.name,
        "fit_error_percent": 100 * float(np.mean(np.abs([fitted_ms[x] / answers[x] - 1 for x in fitted_ms]))),
    }
    return LatencyTable(
        name=name,
        profile=profile,
        provenance="estimated" if source else "transferred",
        rows={
            key: Row(ms=ms, low_ms=ms / reach, high_ms=ms * reach, filled=True)
            for key, ms in basis.rows_ms.items()
        },
        calibration=basis.fitted.calibration,
        heldout=evidence,
        environment=environment or {},
        measurement={**(measurement or {}), "transfer": facts},
        notes=(
            f"{len(measured)} whole networks were {'published for' if source else 'measured on'} this "
            f"device; the rest is transferred from {len(candidates.tables)} known tables. No row was "
            f"measured: they are those of '{basis.table.name}', calibrated again.",
            *((f"Source: {source}.",) if source else ()),
        ),
        created=created,
    )


@dataclass(frozen=True, slots=True)
class _Basis:
    """A known table's rows, calibrated on the answers of the transfer."""

    table: LatencyTable
    rows_ms: Mapping[str, float]
    compositions: Sequence[Composition]
    fitted: Fitted

    def error(self, answers: Floats) -> float:
        """Mean squared log error of networks that the calibration was not fitted on."""
        return float(np.mean(np.log(np.asarray(self.fitted.left_out_ms) / answers) ** 2))


def _best_basis(candidates: Candidates, answers: pd.Series[float], space: SearchSpace) -> _Basis:
    """The table whose rows explain the answers best."""
    wanted = answers.to_numpy(dtype=float)
    ops = list({op.key: op for op in _all_ops(space)}.values())
    bases = [_basis(table, candidates, wanted, ops) for table in candidates.tables]
    return min(bases, key=lambda basis: basis.error(wanted))


def _basis(table: LatencyTable, candidates: Candidates, answers: Floats, ops: Sequence[OpSpec]) -> _Basis:
    rows_ms = _rows_ms(table, ops)
    compositions = [compose(lower(arch), lambda op: rows_ms[op.key]) for arch in candidates.archs.values()]
    fitted = fit_calibration(
        compositions,
        answers.tolist(),
        smallest_op_ms=min(rows_ms.values()),
        ridges=RIDGES,
        caches_mib=CACHES_MIB,
    )
    return _Basis(table, rows_ms, compositions, fitted)


def _rows_ms(table: LatencyTable, ops: Sequence[OpSpec]) -> dict[str, float]:
    """What each op takes alone on a known device, filled in where its table has no row."""
    if table.coefficients is not None:
        return {op.key: max(table.coefficients.op_ms(op), 1e-6) for op in ops}
    rows = {op.key: table.rows[op.key].ms for op in ops if op.key in table.rows}
    missing = [op for op in ops if op.key not in rows]
    if missing:
        there = [(OpSpec.from_key(key), row.ms) for key, row in table.rows.items()]
        fill = fit_fill([op for op, _ in there], [ms for _, ms in there])
        rows |= {op.key: fill.predict_ms(op)[0] for op in missing}
    return rows


def _all_ops(space: SearchSpace) -> Iterable[OpSpec]:
    yield from space_ops(space)
    for name in preset_names():
        yield from lower(preset(name))
