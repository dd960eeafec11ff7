"""What every engine does: have the sampler's networks evaluated, in batches or one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwnas import plugins
from hwnas.search.batchwise import run_in_batches
from hwnas.search.candidate import Trial
from hwnas.search.evaluator import Evaluator
from hwnas.search.problem import Problem

__all__ = ["propose_and_evaluate"]


def propose_and_evaluate(
    problem: Problem,
    evaluator: Evaluator,
    *,
    sampler: str,
    seed: int,
    wanted: int,
    done: Sequence[Trial],
    on_trials: Callable[[Sequence[Trial]], None],
    stop: Callable[[], bool],
) -> None:
    """Evaluates candidates until `wanted` are there in total, `done` included, or `stop()`.

    A sampler that knows how (`batches`) chooses many at a time where the estimator is cheap. Ends early
    when the space has no more networks within the budget.
    """
    named = plugins.load("search/samplers", sampler)
    if problem.is_cheap and hasattr(named, "batches"):
        chosen = named.batches(problem, seed=seed)
        run_in_batches(problem, chosen, evaluator, wanted=wanted, done=done, on_trials=on_trials, stop=stop)
        return
    from hwnas.search.one_by_one import OneByOne

    asked = named.sampler(problem, seed=seed)
    OneByOne(problem, asked, evaluator, done=done, on_trials=on_trials).run(wanted=wanted, stop=stop)
