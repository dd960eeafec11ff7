"""verify_front(): a run's front measured on the device, its table corrected, the front chosen again.

Rounds of: choose the front with what is known (measured where measured, else predicted by the
corrected table), measure those of it that are not yet, correct the table. The verified front is then
chosen among measured networks alone. At most three rounds: a network that was predicted too fast falls
out when it is measured, and what enters in its stead is measured in the next.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hwnas.errors import InfeasibleError, UsageError
from hwnas.estimate import Estimate
from hwnas.io.atomic import write_atomically
from hwnas.measure.build import measured_profile
from hwnas.measure.networks import MeasuredNetwork, measure_archs
from hwnas.measure.remote.link import Link, LocalLink
from hwnas.predictors.latency import DeviceProfile, LatencyTable
from hwnas.predictors.latency.budget_check import latency_bound_ms
from hwnas.predictors.latency.correction import Correction, correct_table
from hwnas.predictors.latency.runtime_versions import check_configuration
from hwnas.search.front import best
from hwnas.search.output import document
from hwnas.search.run import FRONT, SearchResult, attention_types, load_run, locked, reread
from hwnas.search.trial import Trial
from hwnas.search.verification import Corrected, MeasuredCandidate, Verification
from hwnas.space.arch import ArchSpec

__all__ = [
    "CORRECTED_TABLE",
    "DEFAULT_NETWORKS",
    "Measure",
    "Stopped",
    "begun",
    "measured",
    "measuring",
    "never",
    "quiet",
    "start_here",
    "summary",
    "table_of_run",
    "verifiable_profile",
    "verify_front",
]

DEFAULT_NETWORKS = 30
ROUNDS = 3
AT_ONCE = 8
"""Networks measured between two savings: what an interruption loses."""
CALM = 0.9
"""A network that got less of the CPU than this was disturbed, and is measured once more."""
CORRECTED_TABLE = "corrected-table.yaml"
"""The corrected table's file in the run directory."""

Measure = Callable[
    [Mapping[str, ArchSpec], DeviceProfile, Callable[[str, int, int], None]], Mapping[str, MeasuredNetwork]
]
"""Called with networks by id, the profile and what to tell (name, done, total): their times by id."""


Start = Callable[[str], Callable[[], Link]]
"""From a runtime's name to what starts a fresh agent with it on the board."""


def start_here(runtime: str) -> Callable[[], Link]:
    """What starts an agent on this machine."""
    return lambda: LocalLink(runtime)


def verifiable_profile(
    table: LatencyTable,
    *,
    allow_mismatch: bool = False,
    start: Start = start_here,
    where: str = "this machine",
    say: Callable[[str], None] = lambda note: None,
) -> tuple[DeviceProfile, dict[str, object]]:
    """What a front of this table would be measured in on the board `where`, and the environment.

    `say` gets a note where the runtime has a newer version that the table is taken to hold for.

    Raises UsageError when that board, or the runtime on it, is not what the table is of;
    MissingPackageError when its runtime is not there.
    """
    ways_out = (
        f"Leave --verify out; or search with a table measured on {where} (hwnas table build --name NAME, "
        f"then --device NAME); or give --allow-mismatch to time the front on {where} nevertheless"
    )
    if table.provenance == "estimated" and not allow_mismatch:
        raise UsageError(
            f"a front is verified on the board of its table, and '{table.name}' is estimated, for "
            f"'{table.profile.board}'. {ways_out}"
        )
    known = None if table.provenance == "estimated" else table.profile
    runtime = known.runtime if known else "onnxruntime"
    profile, environment = measured_profile(
        start(runtime),
        runtime=runtime,
        threads=table.profile.threads,
        batch=table.profile.batch,
        precision=known.precision if known else "fp32",
        provider=known.provider if known else None,
    )
    if not allow_mismatch:
        if profile.board != table.profile.board:
            raise UsageError(
                f"a front is verified on the board of its table: '{table.name}' was measured on "
                f"'{table.profile.board}', and {where} is '{profile.board}'. "
                f"Name that board (--host). {ways_out}"
            )
        for note in check_configuration(table, profile):
            say(note)
    return profile, environment


def verify_front(
    run: Path | str | SearchResult,
    *,
    device: str | LatencyTable | None = None,
    networks: int = DEFAULT_NETWORKS,
    allow_mismatch: bool = False,
    measure: Measure | None = None,
    start: Start = start_here,
    where: str = "this machine",
    progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> SearchResult:
    """Measures the front of a run, corrects its table, and chooses the front again.

    At most `networks` of the front are measured a round, spread over latency. What was measured is
    saved after every few networks; the same call goes on from there, and a verification that is
    finished is returned as it is. `device` is the run's table where its name does not find it. `stop` is
    asked after each timing; when it says so, the result is the run with an unfinished verification.
    The corrected table is written beside it, for a search that begins with it. `start` reaches the board,
    which messages call `where`.

    Raises UsageError when there is no such run, when its table has changed or is not of this machine,
    InfeasibleError when no network that was measured is within the budget.
    """
    if networks < 1:
        raise UsageError(f"networks to verify must be at least 1, got {networks}")
    run = load_run(run) if isinstance(run, Path | str) else run
    path = run.path
    if path is None:
        raise UsageError("only a run in a directory can be verified: give the search an `out`")
    config = run.config
    if len(config.targets) > 1 or config.configurations or config.budget_on != "p50":
        raise UsageError(
            f"a front is verified on one device, with one table and by its median latency; {path} asks for "
            f"{config.within}. Time its networks with 'hwnas measure {path}'"
        )
    table = table_of_run(run, device)
    with locked(path):
        run = reread(run)
        if not run.trials:
            raise UsageError(f"{path}: this run has no candidates yet, so there is no front to verify")
        past = run.verification
        if past is None or not _is_done(past, run, networks):
            mismatch = allow_mismatch or (past is not None and past.mismatch)
            profile, environment = verifiable_profile(
                table, allow_mismatch=mismatch, start=start, where=where
            )
            work_left = begun(past, run, profile, environment, most=networks, mismatch=mismatch)
            work = _Work(run, table, profile, measure or measuring(start), progress or quiet, stop or never)
            try:
                work.carry_on(work_left)
            except Stopped:
                return reread(run)
        result = reread(run)
        write_atomically(path / FRONT, json.dumps(document(result), indent=2, allow_nan=False) + "\n")
    if not result.front:
        raise _nothing_within(result, table)
    return result


class Stopped(Exception):
    """Somebody asked to stop; what was found so far is saved."""


def measuring(start: Start) -> Measure:
    """What times networks on the board that `start` reaches."""

    def measure(
        archs: Mapping[str, ArchSpec], profile: DeviceProfile, report: Callable[[str, int, int], None]
    ) -> Mapping[str, MeasuredNetwork]:
        return measure_archs(archs, profile, start=start(profile.runtime), report=report)

    return measure


def quiet(done: int, total: int) -> None:
    pass


def never() -> bool:
    return False


def _is_done(past: Verification, run: SearchResult, most: int) -> bool:
    return past.is_complete and past.candidates == len(run.trials) and past.most >= most


class _Work:
    """The rounds of one verification."""

    def __init__(
        self,
        run: SearchResult,
        table: LatencyTable,
        profile: DeviceProfile,
        measure: Measure,
        progress: Callable[[int, int], None],
        stop: Callable[[], bool],
    ) -> None:
        assert run.path is not None
        self._run, self._table, self._profile = run, table, profile
        self._folder = run.path
        self._measure, self._progress, self._stop = measure, progress, stop
        self._trials = {trial.id: trial for trial in run.trials}

    def carry_on(self, done: Verification) -> None:
        """Measures what is left to measure, and writes the finished verification."""
        done.write(self._folder)
        correction = self._correction(done)
        first = len(done.stages) + 1
        for number in range(max(done.rounds, first), first + ROUNDS):
            front = self._front(correction.table, done.latencies)
            wanted = _spread(front, done.most, {one.id for one in done.measured})
            if not wanted:
                break
            done = measured(
                done,
                wanted,
                number,
                run=self._run,
                profile=self._profile,
                measure=self._measure,
                progress=self._progress,
                stop=self._stop,
            )
            correction = self._correction(done)
        latencies = done.latencies
        front = self._chosen(self._known(correction.table, latencies), only=latencies)
        corrected_table = dataclasses.replace(correction.table, name=f"{self._table.name}-corrected")
        corrected_table.save(self._folder / CORRECTED_TABLE)
        dataclasses.replace(
            done,
            finished=_now(),
            correction=summary(correction),
            corrected={name: correction.table.predict(self._arch(name)) for name in latencies},
            front=tuple(trial.id for trial in front),
        ).write(self._folder)

    def _correction(self, done: Verification) -> Correction:
        latencies = done.latencies
        return correct_table(
            self._table,
            [self._arch(name) for name in latencies],
            [one.value for one in latencies.values()],
            spreads=[one.std / one.value for one in latencies.values()],
        )

    def _front(self, table: LatencyTable, latencies: Mapping[str, Estimate]) -> list[Trial]:
        return self._chosen(self._known(table, latencies))

    def _known(self, table: LatencyTable, latencies: Mapping[str, Estimate]) -> list[Trial]:
        """All candidates with the best that is known of their latency."""
        trials = self._run.trials
        predicted = table.predict_many([trial.vector for trial in trials], self._run.space)
        factor, log_std = table.heldout.factor(), table.heldout.prediction_std
        return [
            dataclasses.replace(
                trial,
                latency=latencies.get(trial.id)
                or Estimate(float(ms), float(ms * log_std), float(ms / factor), float(ms * factor), "ms"),
            )
            for trial, ms in zip(trials, np.asarray(predicted), strict=True)
        ]

    def _chosen(self, known: Iterable[Trial], only: Iterable[str] | None = None) -> list[Trial]:
        """The front of those within the budget."""
        config = self._run.config
        allowed = None if only is None else set(only)
        within = [
            trial
            for trial in known
            if (allowed is None or trial.id in allowed)
            and latency_bound_ms(trial.latency, config.confidence) <= config.targets[0].budget_ms
        ]
        return best(within, kind=lambda trial: attention_types(self._run.space.decode(trial.vector)))

    def _arch(self, name: str) -> ArchSpec:
        return self._run.space.decode(self._trials[name].vector)


def measured(
    done: Verification,
    wanted: Sequence[Trial],
    number: int,
    *,
    run: SearchResult,
    profile: DeviceProfile,
    measure: Measure,
    progress: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> Verification:
    """The verification with these networks measured in round `number`, saved in the run after every few.

    Raises Stopped when `stop`, which is asked after each timing, says so.
    """
    assert run.path is not None
    archs = {trial.id: run.space.decode(trial.vector) for trial in wanted}

    def stopping(name: str, timings: int, total: int) -> None:
        if stop():
            raise Stopped

    for first in range(0, len(wanted), AT_ONCE):
        own = wanted[first : first + AT_ONCE]

        def report(name: str, timings: int, total: int, before: int = first, few: int = len(own)) -> None:
            progress(before * total // few + timings, len(wanted) * total // few)
            stopping(name, timings, total)

        found = dict(measure({trial.id: archs[trial.id] for trial in own}, profile, report))
        disturbed = {name: archs[name] for name, one in found.items() if one.cpu_share < CALM}
        if disturbed:
            for name, one in measure(disturbed, profile, stopping).items():
                if one.cpu_share > found[name].cpu_share:
                    found[name] = one
        new = [_kept(trial, found[trial.id], number) for trial in own]
        done = dataclasses.replace(done, measured=(*done.measured, *new))
        done.write(run.path)
    return done


def _spread(front: Sequence[Trial], most: int, measured: set[str]) -> list[Trial]:
    """The networks of the front to measure, so that `most` of it are: each the farthest in latency.

    The first are the most accurate and the fastest one; then always the one whose latency is farthest
    from those chosen or measured already.
    """
    at = {trial.id: math.log(trial.latency.value) for trial in front}
    places = [at[trial.id] for trial in front if trial.id in measured]
    left = [trial for trial in front if trial.id not in measured]
    chosen: list[Trial] = []
    for end in (front[:1], front[-1:]):
        chosen += [trial for trial in end if trial in left and trial not in chosen]
    chosen = chosen[: max(most - len(places), 0)]
    while len(places) + len(chosen) < most and len(chosen) < len(left):
        near = [*places, *(at[trial.id] for trial in chosen)]
        rest = [trial for trial in left if trial not in chosen]
        chosen.append(max(rest, key=lambda trial: min(abs(at[trial.id] - place) for place in near)))
    return chosen


def begun(
    past: Verification | None,
    run: SearchResult,
    profile: DeviceProfile,
    environment: Mapping[str, object],
    *,
    most: int,
    mismatch: bool,
) -> Verification:
    """The verification to go on with: a new one, or the past one with what it has measured."""
    own = profile.settings()
    if past is None:
        return Verification(
            most=most,
            candidates=len(run.trials),
            profile=own,
            environment=environment,
            started=_now(),
            mismatch=mismatch,
        )
    changed = [f"{name} was {past.profile.get(name)}, now {own[name]}" for name in own]
    changed = [text for text, name in zip(changed, own, strict=True) if past.profile.get(name) != own[name]]
    if changed:
        raise UsageError(
            f"{run.path}: its verification was started in another configuration: {'; '.join(changed)}. "
            "Continue there, or delete verification.json in that folder to verify again here"
        )
    known = {trial.id for trial in run.trials}
    return dataclasses.replace(
        past,
        most=most,
        candidates=len(run.trials),
        finished="",
        mismatch=mismatch,
        measured=tuple(one for one in past.measured if one.id in known),
    )


def _kept(trial: Trial, measured: MeasuredNetwork, number: int) -> MeasuredCandidate:
    return MeasuredCandidate(
        id=trial.id,
        round=number,
        rounds_ms=measured.rounds_ms,
        p95_ms=measured.p95_ms,
        cpu_share=measured.cpu_share,
        predicted=trial.latency,
    )


def summary(correction: Correction) -> Corrected | None:
    if correction.mape_before_percent is None or correction.mape_after_percent is None:
        return None
    return Corrected(
        method=correction.method,
        factor=correction.factor,
        factors=dict(correction.factors),
        mape_before_percent=correction.mape_before_percent,
        mape_after_percent=correction.mape_after_percent,
    )


def table_of_run(run: SearchResult, device: str | LatencyTable | None) -> LatencyTable:
    """The run's table; raises UsageError when it is another one by now."""
    named = run.config.devices[0] if device is None else device
    table = LatencyTable.load(named) if isinstance(named, str) else named
    if table.digest != run.config.tables[0].digest:
        raise UsageError(
            f"{run.path}: the table '{table.name}' has changed since the search (its digest differs): "
            "a front is verified with the table it was found with. Start a new search with --verify"
        )
    return table


def _nothing_within(result: SearchResult, table: LatencyTable) -> InfeasibleError:
    verification, config = result.verification, result.config
    assert verification is not None
    fastest_ms = min((one.value for one in verification.latencies.values()), default=math.nan)
    confidence = "" if config.confidence is None else f" with probability {config.confidence:g}"
    assert result.path is not None
    return InfeasibleError(
        f"none of {len(verification.measured)} measured networks is within the budget of "
        f"{config.targets[0].budget_ms:g} ms{confidence}: the fastest took {fastest_ms:.4g} ms. The table "
        f"'{table.name}' was corrected with them; search again with the corrected one: hwnas search "
        f"--device {result.path / CORRECTED_TABLE} --budget {config.targets[0].budget_ms:g}ms --verify"
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
