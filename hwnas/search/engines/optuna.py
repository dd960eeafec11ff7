"""The engine on one machine: an Optuna sampler asks, this process or several of its own evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from hwnas.search.execution.ask_tell import propose_and_evaluate
from hwnas.search.execution.processes import Evaluator, LocalEvaluator
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial

__all__ = ["run"]


def run(
    problem: Problem,
    *,
    sampler: str,
    seed: int,
    wanted: int,
    done: Sequence[Trial],
    on_trials: Callable[[Sequence[Trial]], None],
    stop: Callable[[], bool],
    workers: int = 1,
) -> None:
    """Evaluates candidates until `wanted` are there in total, `done` included, or `stop()`.

    With several `workers`, each is a process of its own. Ends early when the space has no more networks
    within the budget.
    """
    with closing(_evaluator(problem, workers)) as evaluator:
        propose_and_evaluate(
            problem,
            evaluator,
            sampler=sampler,
            seed=seed,
            wanted=wanted,
            done=done,
            on_trials=on_trials,
            stop=stop,
        )


def _evaluator(problem: Problem, workers: int) -> Evaluator:
    if workers == 1:
        return LocalEvaluator(problem)
    from hwnas.search.execution.processes import Processes

    return Processes(problem.space, problem.accuracy, workers=workers)
