"""One candidate after the other from an Optuna sampler, in a study that lives in memory.

Optuna's own storages write every parameter of every trial (3 to 67 trials a second); here the study
is rebuilt from the run's record, which is far cheaper.

With several workers, a few candidates more than are evaluated are asked for beforehand, and the sampler
is told their values in the order in which it was asked, whichever are done first. So what it proposes
depends on the seed and on the number of workers, and not on how long an evaluation took. A trial that
is recorded out of this order notes its place (`asked`), so that a search that is taken up again
reaches the same place.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hwnas import plugins
from hwnas.errors import HwnasError
from hwnas.search.execution.batches import run_in_batches
from hwnas.search.execution.processes import Evaluator
from hwnas.search.problem import Problem
from hwnas.search.samplers._proposing import DEVIATION, ProposingSampler, params_of, quiet_optuna, vector_of
from hwnas.search.trial import Trial
from hwnas.space.search_space import Vector

__all__ = [
    "ASKED",
    "OneByOne",
    "propose_and_evaluate",
]

REPEATS_TO_END = 25
"""So many proposals in a row that were evaluated already mean that the space is exhausted."""
AHEAD = 3
"""Candidates for each further worker that are asked for before the first of them is told. One is being
evaluated; the others keep the workers busy while the one to be told next takes long. More would be proposed
with less knowledge. benchmarks/search_workers.py has the busy shares."""
ASKED = "asked"
"""The note with a trial's place in the order of asking, where that is not its place in the record."""


@dataclass(slots=True)
class _Asked:
    """A candidate that the study has not been told of yet."""

    place: int
    """In the order of asking."""
    number: int
    """Of the study's trial."""
    vector: Vector
    id: str
    notes: dict[str, Any] = field(default_factory=dict)
    batch: int | None = None
    """The evaluator's number while it is evaluated."""
    trial: Trial | None = None
    """What came of it."""


class OneByOne:
    """A search that asks, has evaluated, records and tells."""

    def __init__(
        self,
        problem: Problem,
        sampler: ProposingSampler,
        evaluator: Evaluator,
        *,
        done: Sequence[Trial],
        on_trials: Callable[[Sequence[Trial]], None],
    ) -> None:
        """`done` is in the order of the record; each new trial is handed to `on_trials` once it is known."""
        self._problem = problem
        self._sampler = sampler
        self._evaluator = evaluator
        self._on_trials = on_trials
        self._ahead = AHEAD * (evaluator.workers - 1)
        sampler.ahead = self._ahead
        with quiet_optuna():
            directions = [StudyDirection.MINIMIZE] * len(problem.objectives) + [StudyDirection.MAXIMIZE]
            self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._evaluated = {trial.id for trial in done}
        self._recorded = self._begun = len(done)
        self._window: deque[_Asked] = deque()
        self._beyond: dict[str, Trial] = {}
        """Recorded, but asked for after one that is not: to be asked for again, and not evaluated."""
        self._place = 0
        self._repeats = 0
        self._take_up(done)

    def run(self, *, wanted: int, stop: Callable[[], bool]) -> None:
        """Goes on until `wanted` are recorded in total, the space is exhausted or `stop()` says so.

        An estimator's error ends it too, once what other workers were at is recorded.
        """
        failure: HwnasError | None = None
        halted = False

        def may_ask() -> bool:
            nonlocal halted
            if halted or self._begun >= wanted or self._repeats >= REPEATS_TO_END:
                return False
            halted = stop()
            return not halted

        while True:
            self._advance(may_ask)
            if self._ahead and not halted:  # what is under way may have taken long since one was asked for
                halted = stop()
            if not halted:
                self._submit()
            running = {asked.batch: asked for asked in self._window if asked.batch is not None}
            if not running:
                break
            for batch, answer in self._evaluator.finished().items():
                asked = running[batch]
                asked.batch = None
                if isinstance(answer, HwnasError):
                    failure, halted = failure or answer, True
                else:
                    self._record(asked, self._problem.evaluated([asked.vector], answer)[0])
        if failure:
            raise failure

    # --- asking and telling ---

    def _advance(self, may_ask: Callable[[], bool]) -> None:
        """Tells what is next to be told, and asks for one more each time."""
        while True:
            while len(self._window) <= self._ahead and may_ask():
                self._ask()
            if not self._window or self._window[0].trial is None:
                return
            self._tell(self._window.popleft())

    def _ask(self) -> None:
        study, space = self._study, self._problem.space
        asked = study.ask(self._sampler.ranges)
        vector = vector_of(space, asked.params)
        name = space.decode(vector).id
        known = self._beyond.pop(name, None)
        if known is None and name in self._evaluated:
            study.tell(asked, state=TrialState.FAIL)
            self._repeats += 1
            return
        self._repeats = 0
        notes = dict(study.get_trials(deepcopy=False)[asked.number].system_attrs)
        self._window.append(_Asked(self._place, asked.number, vector, name, notes, trial=known))
        self._place += 1
        if known is None:
            self._evaluated.add(name)
            self._begun += 1
        self._give_up_what_is_passed()

    def _tell(self, asked: _Asked) -> None:
        trial = asked.trial
        assert trial is not None
        self._sampler.deviations[asked.vector] = trial.accuracy.std
        self._study.tell(asked.number, self._values(trial))

    def _submit(self) -> None:
        """Has evaluated what was asked for first."""
        free = self._evaluator.workers - sum(asked.batch is not None for asked in self._window)
        for asked in self._window:
            if free and asked.trial is None and asked.batch is None:
                asked.batch = self._evaluator.begin([asked.vector])
                free -= 1

    def _record(self, asked: _Asked, trial: Trial) -> None:
        place = {} if asked.place == self._recorded else {ASKED: asked.place}
        asked.trial = dataclasses.replace(trial, notes=asked.notes | place)
        self._recorded += 1
        self._on_trials([asked.trial])

    def _values(self, trial: Trial) -> tuple[float, ...]:
        """What the study optimises: latency and the like down, the lower bound of accuracy up."""
        known = (trial.number(quantity.name) for quantity in self._problem.objectives)
        return (*known, trial.accuracy.lower_bound())

    # --- taking up a record ---

    def _take_up(self, done: Sequence[Trial]) -> None:
        """The study as it was: all told but the last few, which were asked for before they were told."""
        placed = sorted(
            ((int(trial.notes.get(ASKED, line)), trial) for line, trial in enumerate(done)),
            key=lambda pair: pair[0],
        )
        places = {place for place, _ in placed}
        whole = next(place for place in range(len(done) + 1) if place not in places)
        told = [trial for place, trial in placed if place < whole - self._ahead]
        waiting = [(place, trial) for place, trial in placed if whole - self._ahead <= place < whole]
        self._beyond = {trial.id: trial for place, trial in placed if place >= whole}
        self._last_beyond = max(places, default=-1)
        self._study.add_trials([self._finished(trial) for trial in told])
        for place, trial in waiting:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=params_of(self._problem.space, trial.vector),
                    distributions=self._sampler.ranges,
                    system_attrs=_own_notes(trial),
                )
            )
            self._sampler.take_up(number, trial.vector)
            self._window.append(_Asked(place, number, trial.vector, trial.id, trial=trial))
        self._place = whole

    def _give_up_what_is_passed(self) -> None:
        """Tells the study what was recorded and is not proposed again: other versions, other workers."""
        if self._beyond and self._place > self._last_beyond:
            self._study.add_trials([self._finished(trial) for trial in self._beyond.values()])
            self._beyond.clear()

    def _finished(self, trial: Trial) -> optuna.trial.FrozenTrial:
        return optuna.trial.create_trial(
            params=params_of(self._problem.space, trial.vector),
            distributions=self._sampler.ranges,
            values=self._values(trial),
            system_attrs=_own_notes(trial),
            user_attrs={DEVIATION: trial.accuracy.std},
        )


def _own_notes(trial: Trial) -> dict[str, Any]:
    """What the sampler itself noted."""
    return {name: note for name, note in trial.notes.items() if name != ASKED}


# --- what every engine runs -------------------------------------------------------------------


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
    from hwnas.search.execution.ask_tell import OneByOne

    asked = named.sampler(problem, seed=seed)
    OneByOne(problem, asked, evaluator, done=done, on_trials=on_trials).run(wanted=wanted, stop=stop)
