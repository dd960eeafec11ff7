"""The engine on one machine: an Optuna study in memory, asked and told one candidate at a time.

Optuna's own storages write every parameter of every trial (3 to 67 trials a second); here the
study lives in memory and is rebuilt from the run's record, which is far cheaper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hwnas import plugins
from hwnas.search.candidate import Trial
from hwnas.search.problem import Problem

__all__ = ["run"]

REPEATS_TO_END = 25
"""So many proposals in a row that were evaluated already mean that the space is exhausted."""


def run(
    problem: Problem,
    *,
    sampler: str,
    seed: int,
    wanted: int,
    done: Sequence[Trial],
    on_trial: Callable[[Trial], None],
    stop: Callable[[], bool],
) -> None:
    """Evaluates candidates until `wanted` are there in total, `done` included, or `stop()`.

    Ends early when the space has no more networks within the budget.
    """
    import optuna
    from optuna.study import StudyDirection

    from hwnas.search.samplers._proposing import DEVIATION, vector_of

    proposer = plugins.load("search/samplers", sampler).sampler(problem, seed=seed)
    ranges = proposer.ranges
    with _quiet():
        directions = [StudyDirection.MINIMIZE] * len(problem.minimised) + [StudyDirection.MAXIMIZE]
        study = optuna.create_study(directions=directions, sampler=proposer)
    study.add_trials([_finished(problem, trial, ranges) for trial in done])
    evaluated = {trial.id for trial in done}
    repeats = 0
    while len(evaluated) < wanted and repeats < REPEATS_TO_END and not stop():
        asked = study.ask(ranges)
        vector = vector_of(problem.space, asked.params)
        if problem.space.decode(vector).id in evaluated:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            repeats += 1
            continue
        repeats = 0
        trial = problem.evaluate(vector)
        asked.set_user_attr(DEVIATION, trial.accuracy.std)
        told = study.tell(asked, _values(problem, trial))
        trial = dataclasses.replace(trial, notes=dict(told.system_attrs))
        evaluated.add(trial.id)
        on_trial(trial)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces each study on stderr; a library does not."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _values(problem: Problem, trial: Trial) -> tuple[float, ...]:
    """What the study optimises: latency and the like down, the lower bound of accuracy up."""
    known = (trial.number(quantity.name) for quantity in problem.minimised)
    return (*known, trial.accuracy.lower_bound())


def _finished(problem: Problem, trial: Trial, ranges: dict[str, Any]) -> Any:
    import optuna

    from hwnas.search.samplers._proposing import DEVIATION, params_of

    return optuna.trial.create_trial(
        params=params_of(problem.space, trial.vector),
        distributions=ranges,
        values=_values(problem, trial),
        system_attrs=dict(trial.notes),
        user_attrs={DEVIATION: trial.accuracy.std},
    )
