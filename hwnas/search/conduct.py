"""search() and resume(): from a question to a front, in one call.

What a resumed run promises: with the same hwnas, Optuna and Python, and an estimator that answers
the same network the same way, its record ends up equal, line for line, to that of a run that was
never interrupted. With other versions it goes on from the same candidates, and may propose others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.predictors.accuracy import AccuracyFunction, load_accuracy
from hwnas.predictors.estimate import Predictor
from hwnas.search.candidate import Trial
from hwnas.search.fastest import require_feasible
from hwnas.search.output import document
from hwnas.search.problem import Problem, check_budget
from hwnas.search.quantities import Latency, Quantity, Size, Tail, Wanted
from hwnas.search.question import OtherDevice, Question
from hwnas.search.record import Record, write_atomically
from hwnas.search.run import (
    CANDIDATES,
    FRONT,
    SearchResult,
    create_run,
    load_run,
    locked,
    result_of,
)
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

__all__ = ["DEFAULT_TRIALS", "Progress", "resume", "search"]

DEFAULT_TRIALS = 2000

Accuracy = Predictor | AccuracyFunction
"""What says how good a network is: a predictor, or a function that gives a number (in %)."""

Progress = Callable[[int, int], None]
"""Called as progress(evaluated, wanted) after each candidate."""


def search(
    space: SearchSpace | None = None,
    *,
    device: str | LatencyTable | Sequence[str | LatencyTable],
    budget_ms: float | Sequence[float],
    accuracy: str | Accuracy = "published",
    trials: int = DEFAULT_TRIALS,
    seed: int = 0,
    out: Path | str | None = None,
    sampler: str = "auto",
    engine: str = "optuna",
    confidence: float | None = None,
    budget_on: str = "p50",
    limits: Mapping[str, float] | None = None,
    objectives: Sequence[str] = (),
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> SearchResult:
    """The Pareto front of accuracy and latency among `trials` networks within the budget.

    `device` names a latency table (`hwnas devices` lists them) or is one. `accuracy` is an
    estimator's name, `module:function`, a predictor or a function of an ArchSpec. With `out`, a run
    directory is written there, which `resume` continues and `hwnas.report.write_report` makes a page of;
    without, nothing is written. With
    `confidence` 0.9, latency is within the budget with that probability, by the table's own error.
    `stop` is asked before each candidate.

    Several devices, each with its budget in the same order, find networks that keep all of them; the
    first one's latency is `Candidate.latency`, the others' are in `also`. `budget_on` "p95" holds the
    tails of the latencies against the budgets. `limits` bounds `params`, `macs` or `memory` (bytes), and
    `objectives` names which of these are minimised besides the latencies.

    Raises InfeasibleError when no network is within the budget, UsageError for a wrong option, an
    `out` that cannot be written or holds a run.
    """
    if trials < 1:
        raise UsageError(f"trials must be at least 1, got {trials}")
    space = SearchSpace.default() if space is None else space
    devices = [device] if isinstance(device, str) or not isinstance(device, Sequence) else list(device)
    budgets = list(budget_ms) if isinstance(budget_ms, Sequence) else [budget_ms]
    if not devices or len(devices) != len(budgets):
        raise UsageError(
            f"each device needs a budget, in the same order; got {len(devices)} devices and "
            f"{len(budgets)} budgets"
        )
    tables = [_table(one) for one in devices]
    names = [one if isinstance(one, str) else one.name for one in devices]
    if len(set(names)) < len(names):
        raise UsageError(f"each device may be given once, got {', '.join(names)}")
    table = tables[0]
    estimator = load_accuracy(accuracy)
    question = Question(
        device=names[0],
        table_digest=table.digest,
        provenance=table.provenance,
        budget_ms=float(budgets[0]),
        confidence=confidence,
        accuracy=_name(accuracy),
        accuracy_unit=estimator.unit,
        sampler=_known("search/samplers", sampler),
        engine=_known("search/engines", engine),
        seed=seed,
        space=space.to_dict(),
        budget_on=budget_on,
        others=tuple(
            OtherDevice(name, other.digest, other.provenance, float(ms))
            for name, other, ms in zip(names[1:], tables[1:], budgets[1:], strict=True)
        ),
        limits={name: float(limit) for name, limit in (limits or {}).items()},
        objectives=tuple(objectives),
    )
    problem = _problem(question, space, tables, estimator)
    require_feasible(problem, device=question.device, provenance=question.provenance)
    if out is None:
        kept: list[Trial] = []
        _evaluate(problem, question, trials, done=(), keep=kept.append, progress=progress, stop=stop)
        return result_of(question, space, kept, trials_wanted=trials)
    path = Path(out)
    create_run(path, question, trials=trials)
    return _continue(path, problem, trials=trials, progress=progress, stop=stop)


def resume(
    path: Path | str,
    *,
    trials: int | None = None,
    device: str | LatencyTable | Sequence[str | LatencyTable] | None = None,
    accuracy: str | Accuracy | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **asked: Any,
) -> SearchResult:
    """Takes a run up again until it has `trials` candidates in total (by default, as many as it began with).

    Options that are given must say what the run says (`budget_ms`, `sampler`, `engine`, `seed`,
    `confidence` and `space` too); `device` and `accuracy` may also be the objects themselves.

    Raises UsageError when there is no run, when the question has changed (with the difference), or
    when another process searches in it; FileFormatError when its files are damaged.
    """
    path = Path(path)
    past = load_run(path)
    recorded = past.question
    devices: list[str | LatencyTable] = list(recorded.devices)
    if device is not None:
        given = [device] if isinstance(device, str) or not isinstance(device, Sequence) else list(device)
        if len(given) != len(devices):
            raise UsageError(
                f"{path} is a search for {', '.join(recorded.devices)}, got {len(given)} devices. "
                "Leave them out to resume it, or start a new run"
            )
        devices = given
    tables = [_table(one) for one in devices]
    table = tables[0]
    estimator = load_accuracy(recorded.accuracy if accuracy is None else accuracy)
    changes = {name: value for name, value in asked.items() if value is not None}
    if isinstance(changes.get("space"), SearchSpace):
        changes["space"] = changes["space"].to_dict()
    if isinstance(devices[0], str):
        changes["device"] = devices[0]
    budgets = changes.get("budget_ms")
    if isinstance(budgets, Sequence):
        changes["budget_ms"] = budgets[0]
    then = [other.budget_ms for other in recorded.others]
    now_ms = list(budgets[1:]) if isinstance(budgets, Sequence) else then
    if len(now_ms) != len(then):
        raise UsageError(
            f"{path} is a search for {', '.join(recorded.devices)}, got {len(now_ms) + 1} budgets. "
            "Leave them out to resume it, or start a new run"
        )
    changes["others"] = [
        {
            "device": one if isinstance(one, str) else other.device,
            "table_digest": held.digest,
            "provenance": held.provenance,
            "budget_ms": float(ms),
        }
        for one, held, other, ms in zip(devices[1:], tables[1:], recorded.others, now_ms, strict=True)
    ]
    if accuracy is not None:
        changes["accuracy"] = _name(accuracy)
    now = Question.from_dict(
        recorded.to_dict() | changes | {"table_digest": table.digest, "provenance": table.provenance},
        source=str(path),
    )
    now.must_equal(recorded, run=str(path))
    problem = _problem(recorded, past.space, tables, estimator)
    wanted = past.trials_wanted if trials is None else trials
    return _continue(path, problem, trials=wanted, progress=progress, stop=stop)


def _problem(
    question: Question, space: SearchSpace, tables: Sequence[LatencyTable], accuracy: Predictor
) -> Problem:
    """What the question asks, with the tables of its devices in their order."""
    tail = question.budget_on == "p95"
    wanted: list[Wanted] = []
    for other, table in zip(question.others, tables[1:], strict=True):
        check_budget(other.budget_ms)
        name = other.quantity(tail=tail)
        latency = Latency(table, space, name=name, confidence=question.confidence)
        quantity: Quantity = Tail(latency, table, space, name=name) if tail else latency
        wanted.append(Wanted(quantity, other.budget_ms, minimised=True))
    for name in dict.fromkeys((*question.limits, *question.objectives)):
        limit = question.limits.get(name)
        if limit is not None and not 0 < limit < math.inf:
            raise UsageError(f"a limit must be a positive number, got {limit} for {name}")
        wanted.append(Wanted(Size(name, space), limit, minimised=name in question.objectives))
    return Problem(
        space,
        tables[0],
        accuracy,
        budget_ms=question.budget_ms,
        confidence=question.confidence,
        budget_on=question.budget_on,
        wanted=wanted,
    )


def _continue(
    path: Path,
    problem: Problem,
    *,
    trials: int,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> SearchResult:
    with ExitStack() as held:
        held.enter_context(locked(path))
        with Record(path / CANDIDATES) as record:  # cuts back what a kill left torn
            past = load_run(path)
            _evaluate(
                problem,
                past.question,
                trials,
                done=past.trials,
                keep=lambda trial: record.append(trial.to_dict()),
                progress=progress,
                stop=stop,
            )
        result = load_run(path)
        write_atomically(path / FRONT, json.dumps(document(result), indent=2, allow_nan=False) + "\n")
    return result


def _evaluate(
    problem: Problem,
    question: Question,
    trials: int,
    *,
    done: tuple[Trial, ...],
    keep: Callable[[Trial], None],
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> None:
    count = len(done)

    def on_trial(trial: Trial) -> None:
        nonlocal count
        count += 1
        keep(trial)
        if progress is not None:
            progress(count, trials)

    plugins.load("search/engines", question.engine).run(
        problem,
        sampler=question.sampler,
        seed=question.seed,
        wanted=trials,
        done=done,
        on_trial=on_trial,
        stop=stop or (lambda: False),
    )


def _table(device: str | LatencyTable) -> LatencyTable:
    if not isinstance(device, str):
        return device
    from hwnas.latency import LatencyTable

    return LatencyTable.load(device)


def _name(accuracy: str | Accuracy) -> str:
    if isinstance(accuracy, str):
        return accuracy
    named = accuracy if hasattr(accuracy, "__qualname__") else type(accuracy)
    return f"{named.__module__}:{named.__qualname__}"


def _known(folder: str, name: str) -> str:
    """The name, when the folder has such a plug-in; raises UsageError with a suggestion otherwise."""
    known = plugins.names(folder)
    if name not in known:
        plugins.load(folder, name)  # says so
    return name
