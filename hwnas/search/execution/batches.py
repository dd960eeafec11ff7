"""Batches of candidates, for an estimator that is cheap: chosen, evaluated and recorded in arrays.

Nothing depends on how many workers there are, nor on which is done first: what is recorded is in the
order in which it was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import HwnasError
from hwnas.search.execution.processes import Answer, Evaluator
from hwnas.search.history import Evaluated, of_trials
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial
from hwnas.space.search_space import Vector

__all__ = ["Batches", "run_in_batches"]

CHUNK = 100
"""At most so many networks are evaluated before what is known of them is recorded."""


class Batches(Protocol):
    """Chooses what to evaluate; what a sampler's `batches(problem, seed=...)` gives."""

    def next(self, past: Evaluated) -> NDArray[np.int64]:
        """New networks within the budget, shape (n, decisions), given all that was evaluated, in its order.

        None when the space has no more.
        """
        ...


def run_in_batches(
    problem: Problem,
    batches: Batches,
    evaluator: Evaluator,
    *,
    wanted: int,
    done: Sequence[Trial],
    on_trials: Callable[[Sequence[Trial]], None],
    stop: Callable[[], bool],
) -> None:
    """Evaluates candidates until `wanted` are there in total, `done` included, or `stop()`.

    Ends early when the space has no more networks within the budget. Raises what the estimator raises,
    once what came before is handed to `on_trials`.
    """
    past = _arrays(problem, done)
    while len(past) < wanted:
        chosen: list[Vector] = [tuple(row) for row in batches.next(past).tolist()][: wanted - len(past)]
        if not chosen:
            return
        for trials in _evaluated(problem, chosen, evaluator, stop):
            on_trials(trials)
            past = past.joined(_arrays(problem, trials))
            chosen = chosen[len(trials) :]
        if chosen:
            return


def _evaluated(
    problem: Problem, chosen: Sequence[Vector], evaluator: Evaluator, stop: Callable[[], bool]
) -> Iterator[list[Trial]]:
    """The trials of these networks in their order, a chunk at a time; some, where it was stopped."""
    size = min(CHUNK, -(-len(chosen) // evaluator.workers))
    chunks = [chosen[first : first + size] for first in range(0, len(chosen), size)]
    begun: dict[int, int] = {}  # the evaluator's number -> the chunk's
    answers: dict[int, Answer] = {}
    next_out = next_in = 0
    halted = False
    while next_out < len(chunks):
        while next_in < len(chunks) and len(begun) < evaluator.workers and not halted:
            halted = stop()
            if not halted:
                begun[evaluator.begin(chunks[next_in])] = next_in
                next_in += 1
        if begun:
            for number, answer in evaluator.finished().items():
                answers[begun.pop(number)] = answer
        elif halted:
            return
        while next_out in answers:
            answer = answers.pop(next_out)
            if isinstance(answer, HwnasError):
                raise answer
            yield problem.evaluated(chunks[next_out], answer)
            next_out += 1


def _arrays(problem: Problem, trials: Sequence[Trial]) -> Evaluated:
    return of_trials(
        trials,
        minimised=[quantity.name for quantity in problem.objectives],
        decisions=len(problem.space.decisions),
    )
