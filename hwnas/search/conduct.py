"""search() and resume(): from a question to a front, in one call.

What a resumed run promises: with the same hwnas, Optuna and Python, and an estimator that answers
the same network the same way, its record ends up equal, line for line, to that of a run that was
never interrupted. With other versions it goes on from the same candidates, and may propose others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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
from hwnas.search.problem import Problem
from hwnas.search.question import Question
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
    device: str | LatencyTable,
    budget_ms: float,
    accuracy: str | Accuracy = "published",
    trials: int = DEFAULT_TRIALS,
    seed: int = 0,
    out: Path | str | None = None,
    sampler: str = "auto",
    engine: str = "optuna",
    confidence: float | None = None,
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

    Raises InfeasibleError when no network is within the budget, UsageError for a wrong option, an
    `out` that cannot be written or holds a run.
    """
    if trials < 1:
        raise UsageError(f"trials must be at least 1, got {trials}")
    space = SearchSpace.default() if space is None else space
    table = _table(device)
    estimator = load_accuracy(accuracy)
    question = Question(
        device=table.name if not isinstance(device, str) else device,
        table_digest=table.digest,
        provenance=table.provenance,
        budget_ms=float(budget_ms),
        confidence=confidence,
        accuracy=_name(accuracy),
        accuracy_unit=estimator.unit,
        sampler=_known("search/samplers", sampler),
        engine=_known("search/engines", engine),
        seed=seed,
        space=space.to_dict(),
    )
    problem = Problem(space, table, estimator, budget_ms=budget_ms, confidence=confidence)
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
    device: str | LatencyTable | None = None,
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
    table = _table(recorded.device if device is None else device)
    estimator = load_accuracy(recorded.accuracy if accuracy is None else accuracy)
    changes = {name: value for name, value in asked.items() if value is not None}
    if isinstance(changes.get("space"), SearchSpace):
        changes["space"] = changes["space"].to_dict()
    if isinstance(device, str):
        changes["device"] = device
    if accuracy is not None:
        changes["accuracy"] = _name(accuracy)
    now = Question.from_dict(
        recorded.to_dict() | changes | {"table_digest": table.digest, "provenance": table.provenance},
        source=str(path),
    )
    now.must_equal(recorded, run=str(path))
    problem = Problem(
        past.space, table, estimator, budget_ms=recorded.budget_ms, confidence=recorded.confidence
    )
    wanted = past.trials_wanted if trials is None else trials
    return _continue(path, problem, trials=wanted, progress=progress, stop=stop)


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
