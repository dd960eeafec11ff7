"""search_and_measure(): a search that measures networks which may break the budget, and corrects its table.

The search goes in stages. After each but the last, the most accurate networks whose latency interval contains
the budget are measured, the table is corrected with all that was measured so far, and the next stage starts
from the candidates of this one, with the corrected table: nothing is evaluated twice. The last stage is the
run itself, whose front is verified (`hwnas.search.verify`).

    OUT/stages.json   how many stages, networks and candidates; written first
    OUT/stage-1       a run directory for each stage but the last, with verification.json, what was measured
                      after it, and corrected-table.yaml, by which the next stage searches
    OUT               the last stage; it is the run that was asked for

Each stage is a run, and what it measured is saved after every few networks: an interruption loses as little
as in those.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_atomically
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency.correction import Correction, correct_table
from hwnas.predictors.latency.table import LatencyTable
from hwnas.search.api import (
    DEFAULT_TRIALS,
    DEFAULTS,
    Progress,
    answers_in_arrays,
    resume,
    search,
    table_of,
)
from hwnas.search.output import stage_text
from hwnas.search.run import RUN, SearchResult, load_run, locked, reread
from hwnas.search.trial import Trial
from hwnas.search.verification import VERIFICATION, MeasuredCandidate, Stage, Verification
from hwnas.search.verify import (
    CORRECTED_TABLE,
    Measure,
    Start,
    Stopped,
    begun,
    measured,
    measuring,
    never,
    quiet,
    start_here,
    summary,
    table_of_run,
    verifiable_profile,
)
from hwnas.space.search_space import SearchSpace

__all__ = ["STAGES", "Stages", "is_staged", "search_and_measure", "unsure"]

STAGES = "stages.json"
COUNT = 3
"""Stages of a search; after each but the last networks are measured."""
NETWORKS = 8
"""Networks measured after a stage."""


@dataclass(frozen=True, slots=True)
class Stages:
    """How a search is cut into stages, as `stages.json` keeps it."""

    count: int
    networks: int
    """Networks measured after each stage but the last, at most."""
    trials: int | None
    """Candidates in total; None where each stage goes on until it converges."""
    allow_mismatch: bool = False
    """Whether it may measure in another configuration, or elsewhere, than the table's."""

    def wanted(self, number: int) -> int | None:
        """Candidates that the run of stage `number`, from 1, has in the end."""
        return None if self.trials is None else -(-self.trials * number // self.count)

    def folder(self, out: Path, number: int) -> Path:
        """The run directory of stage `number`, from 1."""
        return out if number == self.count else out / f"stage-{number}"

    def write(self, out: Path) -> None:
        """Writes `stages.json`."""
        write_atomically(out / STAGES, json.dumps({"schema": 1, **dataclasses.asdict(self)}) + "\n")

    @classmethod
    def read(cls, out: Path) -> Stages:
        """What `write` wrote; raises FileFormatError for anything else."""
        try:
            data = json_io.read(out / STAGES)
            found = cls(data["count"], data["networks"], data["trials"], data["allow_mismatch"] is True)
            numbers = (found.count, found.networks, 1 if found.trials is None else found.trials)
            if data["schema"] != 1 or not all(type(number) is int and number > 0 for number in numbers):
                raise ValueError(data)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{out / STAGES}: not the stages of a search: {error}") from None
        return found


def is_staged(out: Path) -> bool:
    """Whether a search that measures meanwhile was begun in this folder."""
    return (out / STAGES).is_file()


def search_and_measure(
    out: Path,
    space: SearchSpace | None = None,
    *,
    count: int = COUNT,
    networks: int = NETWORKS,
    allow_mismatch: bool = False,
    measure: Measure | None = None,
    start: Start = start_here,
    where: str = "this machine",
    say: Callable[[str], None] = lambda sentence: None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **options: Any,
) -> SearchResult:
    """The run in `out`, begun or continued; its front is not verified yet.

    `options` are those of `hwnas.search.search` at first, of `resume` later. `say` gets a sentence after each
    stage. The same call goes on where one was interrupted.

    Raises Stopped when `stop` says so before the last stage; UsageError where the table does not know its
    error (then no network is unsure); and as `search`, `resume` and `verify_front`.
    """
    if not is_staged(out):
        _begin(out, count, networks, allow_mismatch, options)
    stages = Stages.read(out)
    source, original, trials = (
        options.pop("start_from", None),
        options.get("device"),
        options.pop("trials", None),
    )
    for number in range(1, stages.count + 1):
        folder = stages.folder(out, number)
        is_last = number == stages.count
        wanted = trials if is_last and trials is not None else stages.wanted(number)
        given = {**options, "trials": wanted, "progress": progress, "stop": stop}
        if number > 1:
            given["device"] = str(stages.folder(out, number - 1) / CORRECTED_TABLE)
        if (folder / RUN).is_file():
            result = resume(folder, **given)
        else:
            try:
                result = search(space if number == 1 else None, out=folder, start_from=source, **given)
            finally:
                if number == 1 and not (folder / RUN).is_file():  # refused: nothing was begun
                    (out / STAGES).unlink()
        source = result
        if is_last:
            break
        if (stop or never)():
            raise Stopped(f"in stage {number} of {stages.count}")
        if not (folder / CORRECTED_TABLE).is_file():
            try:
                done = _measured_after(
                    number,
                    out,
                    stages,
                    table_of_run(load_run(stages.folder(out, 1)), original),
                    measure=measure or measuring(start),
                    start=start,
                    where=where,
                    stop=stop or never,
                )
            except Stopped:
                raise Stopped(f"while measuring after stage {number} of {stages.count}") from None
            say(f"Stage {number} of {stages.count}: {stage_text(done)}")
    if not (out / VERIFICATION).is_file():
        _carry(out, stages)
    return reread(result)


def unsure(run: SearchResult, *, most: int, known: Collection[str] = ()) -> list[Trial]:
    """The most accurate networks whose latency interval contains the budget, but those that are `known`."""
    budget_ms = run.config.targets[0].budget_ms
    found = [
        trial
        for trial in run.trials
        if trial.id not in known
        and trial.latency.low is not None
        and trial.latency.high is not None
        and trial.latency.low <= budget_ms <= trial.latency.high
    ]
    return sorted(found, key=lambda trial: (-trial.accuracy.lower_bound(), trial.id))[:most]


def _begin(out: Path, count: int, networks: int, allow_mismatch: bool, options: Mapping[str, Any]) -> None:
    """Checks what can be checked before anything is searched, and writes `stages.json`."""
    past: SearchResult | None = options.get("start_from")
    device = options.get("device") or (past.config.devices[0] if past is not None else None)
    if not isinstance(device, str | LatencyTable):
        raise UsageError("--verify-during measures on one device: give one --device, or leave it out")
    table = table_of(device)
    if not isinstance(table, LatencyTable):
        raise UsageError("--verify-during measures in one configuration: give a --device with one table")
    if not table.heldout:
        raise UsageError(
            f"the table '{table.name}' does not know its error, so no network is unsure: leave "
            "--verify-during out, or measure a table (hwnas table build --name NAME)"
        )
    if (out / RUN).is_file():
        raise UsageError(f"{out}: holds a run that was begun without --verify-during. Name another folder")
    trials = options.get("trials")
    if trials is None:
        known = {name: getattr(past.config, name) for name in ("accuracy", "sampler")} if past else {}
        accuracy, sampler = (
            options.get(name) or known.get(name, DEFAULTS[name]) for name in ("accuracy", "sampler")
        )
        elsewhere = any(options.get(name) is not None for name in ("workers", "engine", "address", "gpus"))
        in_arrays = sampler == "auto" and answers_in_arrays(load_accuracy(accuracy), [table])
        trials = None if in_arrays and not elsewhere else DEFAULT_TRIALS
    out.mkdir(parents=True, exist_ok=True)
    Stages(count, networks, trials, allow_mismatch).write(out)


def _measured_after(
    number: int,
    out: Path,
    stages: Stages,
    table: LatencyTable,
    *,
    measure: Measure,
    start: Start,
    where: str,
    stop: Callable[[], bool],
) -> Stage:
    """Measures what is unsure after a stage, and writes the table that the next one searches by.

    `table` is the one that the first stage searched by: it is corrected with all networks measured so far.
    """
    folder = stages.folder(out, number)
    with locked(folder):
        run, earlier = load_run(folder), [load_run(stages.folder(out, k)) for k in range(1, number)]
        profile, environment = verifiable_profile(
            table, allow_mismatch=stages.allow_mismatch, start=start, where=where
        )
        done = begun(
            run.verification, run, profile, environment, most=stages.networks, mismatch=stages.allow_mismatch
        )
        known = {one.id for past in (*earlier, run) for one in _measured_in(past)}
        wanted = unsure(run, most=stages.networks - len(done.measured), known=known)
        done = measured(
            done, wanted, number, run=run, profile=profile, measure=measure, progress=quiet, stop=stop
        )
        correction = _corrected(table, [*earlier, dataclasses.replace(run, verification=done)])
        done = dataclasses.replace(done, correction=summary(correction))
        done.write(folder)
        corrected = dataclasses.replace(correction.table, name=f"{table.name}-corrected")
        corrected.save(folder / CORRECTED_TABLE)
    return _stage(done, run)


def _corrected(table: LatencyTable, runs: Sequence[SearchResult]) -> Correction:
    """The table corrected with everything that was measured after these stages."""
    archs = {trial.id: run.space.decode(trial.vector) for run in runs for trial in run.trials}
    last = runs[-1].verification
    assert last is not None
    everything = tuple(one for run in runs for one in _measured_in(run))
    latencies = dataclasses.replace(last, measured=everything).latencies
    return correct_table(
        table,
        [archs[name] for name in latencies],
        [one.value for one in latencies.values()],
        spreads=[one.std / one.value for one in latencies.values()],
    )


def _measured_in(run: SearchResult) -> tuple[MeasuredCandidate, ...]:
    return () if run.verification is None else run.verification.measured


def _stage(done: Verification, run: SearchResult) -> Stage:
    within, of = done.within(run.config.targets[0].budget_ms)
    return Stage(of, within, done.correction)


def _carry(out: Path, stages: Stages) -> None:
    """Begins the verification of the run itself with what its stages measured."""
    runs = [load_run(stages.folder(out, number)) for number in range(1, stages.count)]
    verifications = [run.verification for run in runs if run.verification is not None]
    dataclasses.replace(
        verifications[-1],
        started=verifications[0].started,
        measured=tuple(one for run in runs for one in _measured_in(run)),
        correction=None,
        stages=tuple(_stage(done, run) for done, run in zip(verifications, runs, strict=True)),
    ).write(out)
