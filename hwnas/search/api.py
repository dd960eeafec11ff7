"""search() and resume(): from a question to a front, in one call.

What a resumed run promises: with the same hwnas, Optuna and Python, as many workers, and an estimator
that answers the same network the same way, it ends up with the same candidates as a run that was never
interrupted (with one worker, or an estimator that is cheap, in a record that is equal line for line).
With other versions it goes on from the same candidates, and may propose others.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.estimate import Predictor
from hwnas.io.atomic import write_atomically
from hwnas.predictors.accuracy import AccuracyFunction, load_accuracy
from hwnas.search.candidates import check_predictions
from hwnas.search.config import OtherDevice, Question
from hwnas.search.feasibility import require_feasible
from hwnas.search.objectives import Latency, Quantity, Size, Tail, Wanted
from hwnas.search.output import document
from hwnas.search.problem import Problem, check_budget
from hwnas.search.run import (
    FRONT,
    SearchResult,
    candidate_log,
    create_run,
    load_run,
    locked,
    result_of,
)
from hwnas.search.trial import Trial
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = [
    "DEFAULT_TRIALS",
    "Accuracy",
    "Progress",
    "must_ask_the_same",
    "name_of",
    "problem_of",
    "resume",
    "search",
    "table_of",
]


# --- options -> configuration and problem ----------------------------------------------------


Accuracy = Predictor | AccuracyFunction
"""What says how good a network is: a predictor, or a function that gives a number (in %)."""


def problem_of(
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


def must_ask_the_same(
    past: SearchResult,
    *,
    device: str | LatencyTable | Sequence[str | LatencyTable] | None,
    accuracy: str | Accuracy | None,
    **asked: Any,
) -> list[LatencyTable]:
    """The tables of a run's devices, once it is sure that what is asked now is what the run asks.

    What is left out is taken from the run. Raises UsageError with the difference.
    """
    path, recorded = past.path, past.question
    devices: list[str | LatencyTable] = list(recorded.devices)
    if device is not None:
        given = [device] if isinstance(device, str) or not isinstance(device, Sequence) else list(device)
        if len(given) != len(devices):
            raise UsageError(
                f"{path} is a search for {', '.join(recorded.devices)}, got {len(given)} devices. "
                "Leave them out to resume it, or start a new run"
            )
        devices = given
    tables = [table_of(one) for one in devices]
    table = tables[0]
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
        changes["accuracy"] = name_of(accuracy)
    now = Question.from_dict(
        recorded.to_dict() | changes | {"table_digest": table.digest, "provenance": table.provenance},
        source=str(path),
    )
    now.must_equal(recorded, run=str(path))
    return tables


def table_of(device: str | LatencyTable) -> LatencyTable:
    """The table, or the one of that name."""
    if not isinstance(device, str):
        return device
    from hwnas.predictors.latency import LatencyTable

    return LatencyTable.load(device)


def name_of(accuracy: str | Accuracy) -> str:
    """What a run records of an estimator: a name, or `module:function`."""
    if isinstance(accuracy, str):
        return accuracy
    named = accuracy if hasattr(accuracy, "__qualname__") else type(accuracy)
    return f"{named.__module__}:{named.__qualname__}"


# --- search and resume ------------------------------------------------------------------------

DEFAULT_TRIALS = 2000
MOST_WORKERS = 1024

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
    workers: int | None = None,
    address: str | None = None,
    gpus: float | None = None,
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

    `workers` evaluates so many candidates at once: the engine `optuna` in processes of this machine (a
    script that calls this then needs `if __name__ == "__main__":`), the engine `ray` on the cluster at
    `address`, each with `gpus` GPUs.

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
    tables = [table_of(one) for one in devices]
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
        accuracy=name_of(accuracy),
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
    work = _work(question.engine, workers=workers, address=address, gpus=gpus)
    problem = problem_of(question, space, tables, estimator)
    require_feasible(problem, device=question.device, provenance=question.provenance)
    if out is None:
        kept: list[Trial] = []
        _evaluate(problem, question, trials, work, done=(), keep=kept.extend, progress=progress, stop=stop)
        return result_of(question, space, kept, trials_wanted=trials)
    path = Path(out)
    create_run(path, question, trials=trials, work=work)
    return _continue(path, problem, work, trials=trials, progress=progress, stop=stop)


def resume(
    path: Path | str,
    *,
    trials: int | None = None,
    device: str | LatencyTable | Sequence[str | LatencyTable] | None = None,
    accuracy: str | Accuracy | None = None,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    gpus: float | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **asked: Any,
) -> SearchResult:
    """Takes a run up again until it has `trials` candidates in total (by default, as many as it began with).

    Options that are given must say what the run says (`budget_ms`, `sampler`, `seed`, `confidence` and
    `space` too); `device` and `accuracy` may also be the objects themselves. Where candidates are evaluated
    (`engine`, `workers`, `address`, `gpus`) may change; by default it is as it was.

    Raises UsageError when there is no run, when the question has changed (with the difference), or
    when another process searches in it; FileFormatError when its files are damaged.
    """
    path = Path(path)
    past = load_run(path)
    recorded = past.question
    tables = must_ask_the_same(past, device=device, accuracy=accuracy, **asked)
    estimator = load_accuracy(recorded.accuracy if accuracy is None else accuracy)
    problem = problem_of(recorded, past.space, tables, estimator)
    wanted = past.trials_wanted if trials is None else trials
    options = dict(past.work)
    before = options.pop("engine", recorded.engine)
    where = _known("search/engines", before if engine is None else engine)
    given = {"workers": workers, "address": address, "gpus": gpus}
    given = {name: value for name, value in given.items() if value is not None}
    work = _work(where, **(options | given if where == before else given))
    return _continue(path, problem, work, trials=wanted, progress=progress, stop=stop)


def _work(engine: str, **options: Any) -> dict[str, Any]:
    """How candidates are evaluated: the engine and its options, those that are None left out.

    Raises UsageError for an option that the engine does not take.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not 1 <= given.get("workers", 1) <= MOST_WORKERS:
        raise UsageError(f"workers must be from 1 to {MOST_WORKERS}, got {given['workers']}")
    if not 0 <= given.get("gpus", 0) < math.inf:
        raise UsageError(f"the GPUs of a worker must be 0 or more, got {given['gpus']}")
    known = inspect.signature(plugins.load("search/engines", engine).run).parameters
    for name in given:
        if name not in known:
            raise UsageError(
                f"the engine '{engine}' takes no {name}: leave it out, or choose an engine that does, "
                "such as ray"
            )
    return {"engine": engine, **given}


def _continue(
    path: Path,
    problem: Problem,
    work: Mapping[str, Any],
    *,
    trials: int,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> SearchResult:
    with ExitStack() as held:
        held.enter_context(locked(path))
        with candidate_log(path) as record:  # cuts back what a kill left torn
            past = load_run(path)
            check_predictions(path, problem, past.trials)
            _evaluate(
                problem,
                past.question,
                trials,
                work,
                done=past.trials,
                keep=lambda found: record.extend(trial.to_dict() for trial in found),
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
    work: Mapping[str, Any],
    *,
    done: tuple[Trial, ...],
    keep: Callable[[Sequence[Trial]], None],
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> None:
    count = len(done)

    def on_trials(found: Sequence[Trial]) -> None:
        nonlocal count
        keep(found)
        for _ in found:
            count += 1
            if progress is not None:
                progress(count, trials)

    options = {name: value for name, value in work.items() if name != "engine"}
    plugins.load("search/engines", work["engine"]).run(
        problem,
        sampler=question.sampler,
        seed=question.seed,
        wanted=trials,
        done=done,
        on_trials=on_trials,
        stop=stop or (lambda: False),
        **options,
    )


def _known(folder: str, name: str) -> str:
    """The name, when the folder has such a plug-in; raises UsageError with a suggestion otherwise."""
    if name not in plugins.names(folder):
        plugins.load(folder, name)  # says so
    return name
