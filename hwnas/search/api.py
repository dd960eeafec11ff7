"""search() and resume(): from a config to a front, in one call.

What a resumed run promises: with the same hwnas, Optuna and Python, as many workers, and an estimator
that answers the same network the same way, it ends up with the same candidates as a run that was never
interrupted (with one worker, or an estimator that is cheap, in a record that is equal line for line).
With other versions it goes on from the same candidates, and may propose others.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import ArrayPredictor, Predictor
from hwnas.foreign import require_main
from hwnas.io.atomic import write_atomically
from hwnas.paths import user_path
from hwnas.predictors.accuracy import AccuracyFunction, load_accuracy, names_function
from hwnas.search.candidates import check_predictions
from hwnas.search.config import SearchConfig, TableVersion, Target
from hwnas.search.configurations import (
    BoardTables,
    configurations_of,
    split_device,
    without_penalty,
)
from hwnas.search.evolution import Epoch, evolve
from hwnas.search.feasibility import require_feasible
from hwnas.search.output import document
from hwnas.search.problem import Problem
from hwnas.search.run import (
    FRONT,
    SearchResult,
    candidate_log,
    create_run,
    discard_if_empty,
    extended,
    load_run,
    locked,
    progress_log,
    reread,
    result_of,
    resume_command,
)
from hwnas.search.trial import Trial
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable
    from hwnas.search.config import Configuration

    Tables = LatencyTable | BoardTables
    """One table, or those of one board."""

__all__ = [
    "DEFAULT_TRIALS",
    "Accuracy",
    "Progress",
    "answers_in_arrays",
    "name_of",
    "problem_of",
    "resume",
    "search",
    "table_of",
]

DEFAULT_TRIALS = 2000
MOST_WORKERS = 1024
DEFAULTS: Mapping[str, Any] = {
    "accuracy": "published",
    "seed": 0,
    "sampler": "auto",
    "engine": "optuna",
    "confidence": None,
    "budget_on": "p50",
    "limits": {},
    "objectives": (),
}
"""What a search takes where neither the caller nor the run it starts from says otherwise."""

Accuracy = Predictor | AccuracyFunction
"""An accuracy estimator: a predictor, or a function that returns a number (in %)."""

Progress = Callable[[int, int], None]
"""Called as progress(evaluated, wanted) after each candidate; wanted is 0 where that is not known."""


def search(
    space: SearchSpace | None = None,
    *,
    device: str | Tables | Sequence[str | Tables] | None = None,
    budget_ms: float | Sequence[float] | None = None,
    accuracy: str | Accuracy | None = None,
    trials: int | None = None,
    seed: int | None = None,
    out: Path | str | None = None,
    sampler: str | None = None,
    engine: str | None = None,
    confidence: float | None = None,
    budget_on: str | None = None,
    limits: Mapping[str, float] | None = None,
    objectives: Sequence[str] | None = None,
    int8_penalty: float | None = None,
    start_from: Path | str | SearchResult | None = None,
    workers: int | None = None,
    address: str | None = None,
    gpus: float | None = None,
    evaluation_timeout_s: float | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> SearchResult:
    """The Pareto front of accuracy and latency among the networks within the budget.

    `device` names a latency table (`hwnas devices` lists them) or is one. `accuracy` is an
    estimator's name, `module:function`, a predictor or a function of an ArchSpec (default: "published").
    With `out`, a run directory is written there, which `resume` continues and
    `hwnas.report.write_report` makes a page of; without, nothing is written. With `confidence` 0.9,
    latency is within the budget with that probability, by the table's own error. `stop` is called before
    each candidate and ends the search by returning True.

    `trials` is the number of networks to evaluate (2000). Without it, an estimator that answers in arrays
    (`published`, `learned`) is asked about as many as it takes until the front stops growing; see
    `hwnas.search.evolution`.

    `workers` is the number of parallel evaluations: the engine `optuna` in processes of this machine (a
    script that calls this then needs `if __name__ == "__main__":`), the engine `ray` on the cluster at
    `address`, each with `gpus` GPUs. `evaluation_timeout_s` bounds each call of an accuracy function: one
    that takes longer ends the search with an error (Python code and waiting, in the main thread).

    Several devices, each with its budget in the same order, find networks that are within all of them; the
    first one's latency is `Candidate.latency`, the others' are in `also`. `budget_on` "p95" compares the
    tails of the latencies with the budgets. `limits` bounds `params`, `macs`, `memory` (bytes) or `energy`
    (mJ, of the first device), and `objectives` names which of these are minimised besides the latencies.

    A `device` of several tables of one board, `cpu-x86,cpu-x86-int8`, finds networks and the configuration
    (runtime, precision, threads) that each runs in: `Candidate.configuration` names its table.
    `int8_penalty` is what int8 costs, in the estimator's unit (default: `configurations.INT8_PENALTY`).

    `start_from` is a run whose evaluations are used: options that are left out are taken from it, and the
    accuracies of its candidates are not estimated again. Space and estimator must be the same.

    Raises InfeasibleError when no network is within the budget, UsageError for a wrong option, an
    `out` that cannot be written or holds a run.
    """
    if trials is not None and trials < 1:
        raise UsageError(f"trials must be at least 1, got {trials}")
    require_main("a search")
    past = load_run(start_from) if isinstance(start_from, Path | str) else start_from
    if past is not None and accuracy is None:
        _require_named_again(past)
    asked = {
        "accuracy": accuracy,
        "seed": seed,
        "sampler": sampler,
        "engine": engine,
        "confidence": confidence,
        "budget_on": budget_on,
        "limits": limits,
        "objectives": objectives,
    }
    options = {name: _first(value, past, name) for name, value in asked.items()}
    given_space = SearchSpace.default() if space is None and past is None else space
    space = past.space if given_space is None and past is not None else given_space
    assert space is not None
    targets, tables = _targets(device, budget_ms, past)
    if int8_penalty is None and past is not None:
        int8_penalty = _known_penalty(past)
    estimator = load_accuracy(options["accuracy"], limit_s=evaluation_timeout_s)
    require_comparable(estimator, space)
    config = SearchConfig(
        targets=targets,
        tables=tuple(TableVersion(table.digest, table.provenance) for table in tables),
        confidence=options["confidence"],
        accuracy=name_of(options["accuracy"]),
        accuracy_unit=estimator.unit,
        sampler=_known("search/samplers", options["sampler"]),
        engine=_known("search/engines", options["engine"]),
        seed=options["seed"],
        space=space.to_dict(),
        budget_on=options["budget_on"],
        limits={name: float(limit) for name, limit in options["limits"].items()},
        objectives=tuple(options["objectives"]),
        configurations=_configurations(tables, int8_penalty, estimator.unit),
    )
    if past is not None:
        _require_same_accuracy(past, config)
    where = {"workers": workers, "address": address, "gpus": gpus}
    work: dict[str, Any] = {}
    in_arrays = trials is None and config.sampler == "auto" and answers_in_arrays(estimator, tables)
    if not in_arrays or engine is not None or any(value is not None for value in where.values()):
        in_arrays = False
        work = _work(config.engine, **where)
        if trials is None:
            trials = DEFAULT_TRIALS if past is None or past.trials_wanted is None else past.trials_wanted
    problem = problem_of(config, space, tables, estimator)
    require_feasible(problem, provenance=config.provenance)
    given = [] if past is None else _carried_over(past, problem)
    source = "" if past is None or past.path is None else str(past.path)
    started = result_of(
        config, space, given, trials_wanted=trials, work=work, given=len(given), source=source
    )
    if out is None:
        return _evaluated(problem, started, work, trials=trials, progress=progress, stop=stop)
    path = user_path(out)
    create_run(path, config, trials=trials, work=work, given=given, source=source)
    try:
        return _continued(load_run(path), problem, work, trials=trials, progress=progress, stop=stop)
    except HwnasError:
        discard_if_empty(path)
        raise


def resume(
    path: Path | str | SearchResult,
    *,
    trials: int | None = None,
    device: str | Tables | Sequence[str | Tables] | None = None,
    accuracy: str | Accuracy | None = None,
    engine: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    gpus: float | None = None,
    evaluation_timeout_s: float | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    **asked: Any,
) -> SearchResult:
    """Continues a run until it has `trials` candidates in total (by default, as many as it began with).

    A run that goes on until it converges has no `trials`. Options that are given must equal those of the
    run (`budget_ms`, `sampler`, `seed`, `confidence` and `space` too); `device` and `accuracy` may also be
    the objects themselves. Where candidates are evaluated (`engine`, `workers`, `address`, `gpus`) may
    change; by default it is as it was.

    Raises UsageError when there is no run, when an option differs (with the difference), or
    when another process searches in it; FileFormatError when its files are damaged.
    """
    require_main("a search")
    past = path if isinstance(path, SearchResult) else load_run(path)
    recorded = past.config
    if accuracy is None:
        _require_named_again(past)
    tables = _tables_of(past, device=device, accuracy=accuracy, **asked)
    estimator = load_accuracy(
        recorded.accuracy if accuracy is None else accuracy, limit_s=evaluation_timeout_s
    )
    require_comparable(estimator, past.space)
    problem = problem_of(recorded, past.space, tables, estimator)
    if past.trials_wanted is None:
        if trials is not None:
            raise UsageError(
                f"{past.path}: this search continues until it converges, so --trials does not apply; "
                "leave it out, or start a new run"
            )
        return _continued(past, problem, {}, trials=None, progress=progress, stop=stop)
    wanted = past.trials_wanted if trials is None else trials
    options = dict(past.work)
    before = options.pop("engine", recorded.engine)
    where = _known("search/engines", before if engine is None else engine)
    given = {"workers": workers, "address": address, "gpus": gpus}
    given = {name: value for name, value in given.items() if value is not None}
    work = _work(where, **(options | given if where == before else given))
    return _continued(past, problem, work, trials=wanted, progress=progress, stop=stop)


def _require_named_again(past: SearchResult) -> None:
    """Raises UsageError for a run whose estimator is a function of a module that is not loaded yet.

    A run may come from anybody: what it names is not imported because the run names it.
    """
    reference = past.config.accuracy
    module = reference.partition(":")[0]
    own = module in sys.modules and module.partition(".")[0] not in sys.stdlib_module_names
    if names_function(reference) and not own:
        again = "" if past.path is None else f": {resume_command(past.path, reference)}"
        raise UsageError(
            f"the run estimates accuracy with the Python function '{reference}', which is only imported when "
            f"you name it. If you trust it, give --accuracy {reference} too (in Python: "
            f"accuracy='{reference}'){again}"
        )


# --- options -> config and problem -----------------------------------------------------------


def problem_of(
    config: SearchConfig, space: SearchSpace, tables: Sequence[Tables], accuracy: Predictor
) -> Problem:
    """The problem of a config, with the tables of its targets in their order."""
    return Problem(
        space,
        accuracy,
        targets=config.targets,
        latencies=tables,
        confidence=config.confidence,
        budget_on=config.budget_on,
        limits=config.limits,
        objectives=config.objectives,
        configurations=config.configurations,
    )


def require_comparable(estimator: Predictor, space: SearchSpace) -> None:
    """Raises UsageError for an estimator that says it cannot compare the networks of a space (`remark`)."""
    if hasattr(estimator, "remark"):
        estimator.remark(space)


def table_of(device: str | Tables) -> Tables:
    """The table, or the one of that name, or those of one board."""
    if not isinstance(device, str):
        return device
    from hwnas.predictors.latency import LatencyTable

    names = split_device(device)
    tables = [LatencyTable.load(name) for name in names]
    return tables[0] if len(tables) == 1 else BoardTables(tuple(names), tuple(tables))


def _configurations(
    tables: Sequence[Tables], int8_penalty: float | None, unit: str
) -> tuple[Configuration, ...]:
    """Those to choose from, where the one device has several tables."""
    board = tables[0]
    if isinstance(board, BoardTables):
        return configurations_of(board, int8_penalty=int8_penalty, accuracy_unit=unit)
    if int8_penalty is not None:
        raise UsageError(
            "--int8-penalty compares int8 with another precision: give several tables of one board, such "
            "as --device cpu-x86,cpu-x86-int8"
        )
    return ()


def _known_penalty(past: SearchResult) -> float | None:
    """What int8 costs in a run, where that was given."""
    return next((one.penalty for one in past.config.configurations if one.penalty_source == "given"), None)


def name_of(accuracy: str | Accuracy) -> str:
    """What a run records of an estimator: a name, or `module:function`."""
    if isinstance(accuracy, str):
        return accuracy
    named = accuracy if hasattr(accuracy, "__qualname__") else type(accuracy)
    return f"{named.__module__}:{named.__qualname__}"


def _first(value: Any, past: SearchResult | None, name: str) -> Any:
    """The option that was given, else that of the run to start from, else the default."""
    if value is not None:
        return value
    return DEFAULTS[name] if past is None else getattr(past.config, name)


def _targets(
    device: str | Tables | Sequence[str | Tables] | None,
    budget_ms: float | Sequence[float] | None,
    past: SearchResult | None,
) -> tuple[tuple[Target, ...], list[Tables]]:
    """The targets and their tables; what is left out is taken from the run to start from."""
    if device is None and past is not None:
        device = past.config.devices
    if budget_ms is None and past is not None:
        budget_ms = [target.budget_ms for target in past.config.targets]
    devices = [] if device is None else _listed(device)
    budgets = [] if budget_ms is None else _listed(budget_ms)
    if not devices or len(devices) != len(budgets):
        raise UsageError(
            f"each device needs a budget, in the same order; got {len(devices)} devices and "
            f"{len(budgets)} budgets"
        )
    names = [one if isinstance(one, str) else one.name for one in devices]
    if len(set(names)) < len(names):
        raise UsageError(f"each device may be given once, got {', '.join(names)}")
    targets = tuple(Target(name, float(ms)) for name, ms in zip(names, budgets, strict=True))
    return targets, [table_of(one) for one in devices]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]


def _tables_of(
    past: SearchResult,
    *,
    device: str | Tables | Sequence[str | Tables] | None,
    accuracy: str | Accuracy | None,
    **asked: Any,
) -> list[Tables]:
    """The tables of a run's devices, after a check that the options given equal those of the run.

    Raises UsageError with the difference.
    """
    recorded = past.config
    counts = {"devices": device, "budgets": asked.get("budget_ms")}
    for noun, values in counts.items():
        if values is not None and len(_listed(values)) != len(recorded.targets):
            raise UsageError(
                f"{past.path} is a search for {', '.join(recorded.devices)}, got {len(_listed(values))} "
                f"{noun}. Leave them out to resume it, or start a new run"
            )
    devices = list(recorded.devices) if device is None else _listed(device)
    tables = [table_of(one) for one in devices]
    budgets = [target.budget_ms for target in recorded.targets]
    if asked.get("budget_ms") is not None:
        budgets = [float(ms) for ms in _listed(asked["budget_ms"])]
    changes = {
        name: value
        for name, value in asked.items()
        if value is not None and name not in ("budget_ms", "int8_penalty")
    }
    if (penalty := asked.get("int8_penalty")) is not None:
        several = _configurations(tables, penalty, recorded.accuracy_unit)
        changes["configurations"] = [asdict(one) for one in several]
    if isinstance(changes.get("space"), SearchSpace):
        changes["space"] = changes["space"].to_dict()
    if accuracy is not None:
        changes["accuracy"] = name_of(accuracy)
    targets = [
        {
            # A table that was handed over is known by its digest; its name may have changed.
            "device": one if isinstance(one, str) else target.device,
            "budget_ms": ms,
            "digest": table.digest,
            "provenance": table.provenance,
        }
        for one, target, ms, table in zip(devices, recorded.targets, budgets, tables, strict=True)
    ]
    now = SearchConfig.from_dict(recorded.to_dict() | changes | {"targets": targets}, source=str(past.path))
    now.require_equal(recorded, run=str(past.path))
    return tables


def _require_same_accuracy(past: SearchResult, config: SearchConfig) -> None:
    """Raises UsageError when the accuracies of a run are not those that a search would estimate."""
    for what, then, now in (
        ("accuracy estimator", past.config.accuracy, config.accuracy),
        ("search space", past.config.space, config.space),
    ):
        if then != now:
            shown = f": '{then}' there, '{now}' here" if isinstance(then, str) else ""
            raise UsageError(
                f"a search that starts from a run needs its {what}{shown}. Leave the option out, or start a "
                "new run without --from"
            )


def _carried_over(past: SearchResult, problem: Problem) -> list[Trial]:
    """The candidates of a run that are feasible now, with their accuracies and today's latencies."""
    if not past.trials:
        return []
    feasible = problem.feasible([trial.vector for trial in past.trials]).tolist()
    kept = [trial for trial, keep in zip(past.trials, feasible, strict=True) if keep]
    accuracies = [without_penalty(trial, past.config) for trial in kept]
    vectors, ids = [trial.vector for trial in kept], [trial.id for trial in kept]
    return problem.evaluated(vectors, accuracies, ids=ids)


def answers_in_arrays(estimator: Predictor, tables: Sequence[Tables]) -> bool:
    """Whether accuracy and latencies are predicted for many networks at once."""
    return (
        isinstance(estimator, ArrayPredictor)
        and estimator.in_arrays
        and all(hasattr(one, "predict_many") for one in tables)
    )


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


def _known(folder: str, name: str) -> str:
    """The name, when the folder has such a plug-in; raises UsageError with a suggestion otherwise."""
    if name not in plugins.names(folder):
        plugins.load(folder, name)  # says so
    return name


# --- evaluation and record -------------------------------------------------------------------


def _continued(
    past: SearchResult,
    problem: Problem,
    work: Mapping[str, Any],
    *,
    trials: int | None,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> SearchResult:
    """The run after the rest of its search, recorded as it goes."""
    path = past.path
    assert path is not None
    with ExitStack() as stack:
        stack.enter_context(locked(path))
        record = stack.enter_context(candidate_log(path))  # cuts back what a kill left torn
        log = stack.enter_context(progress_log(path)) if trials is None else None
        past = reread(past)
        check_predictions(path, problem, past.trials)

        def keep(found: Sequence[Trial]) -> None:
            record.extend(trial.to_dict() for trial in found)

        def keep_epoch(epoch: Epoch) -> None:
            assert log is not None
            record.flush()  # an epoch counts once its networks are on the disk
            log.append(asdict(epoch))
            log.flush()

        found = _evaluated(
            problem,
            past,
            work,
            trials=trials,
            keep=keep,
            keep_epoch=keep_epoch,
            progress=progress,
            stop=stop,
        )
        record.flush()
        result = extended(found, ())
        write_atomically(path / FRONT, json.dumps(document(result), indent=2, allow_nan=False) + "\n")
    return result


def _evaluated(
    problem: Problem,
    past: SearchResult,
    work: Mapping[str, Any],
    *,
    trials: int | None,
    keep: Callable[[Sequence[Trial]], None] = lambda found: None,
    keep_epoch: Callable[[Epoch], None] = lambda epoch: None,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> SearchResult:
    """The result with everything that was evaluated further."""
    new: list[Trial] = []
    epochs: list[Epoch] = []
    stop = stop or (lambda: False)
    if trials is None:

        def on_epoch(found: Sequence[Trial], epoch: Epoch) -> None:
            keep(found)
            keep_epoch(epoch)
            new.extend(found)
            epochs.append(epoch)
            if progress is not None:
                progress(epoch.evaluated, 0)

        accuracy = problem.accuracy
        assert isinstance(accuracy, ArrayPredictor)
        evolve(
            problem,
            accuracy,
            seed=past.config.seed,
            recorded=past.trials,
            given=past.given,
            epochs=past.epochs,
            on_epoch=on_epoch,
            stop=stop,
        )
        return extended(past, new, epochs=epochs)
    count = len(past.trials)

    def on_trials(found: Sequence[Trial]) -> None:
        nonlocal count
        keep(found)
        new.extend(found)
        for _ in found:
            count += 1
            if progress is not None:
                progress(count, trials)

    options = {name: value for name, value in work.items() if name != "engine"}
    plugins.load("search/engines", work["engine"]).run(
        problem,
        sampler=past.config.sampler,
        seed=past.config.seed,
        wanted=trials,
        done=past.trials,
        on_trials=on_trials,
        stop=stop,
        **options,
    )
    return extended(past, new)
