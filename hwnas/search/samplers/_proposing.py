"""ProposingSampler: an Optuna sampler that proposes whole networks within the budget, each once.

Optuna sees one parameter per decision of the space, always the same ones in the same ranges
(ranges that depend on other parameters break its NSGA-II); what a decision means where it is idle
follows `moves.filled`. What a sampler proposes is a function of its seed and of the finished trials,
so a study that is rebuilt from a record goes on as the one that wrote it.
"""

from __future__ import annotations

import abc
import random
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import BaseTrial, FrozenTrial, TrialState

from hwnas.errors import UsageError
from hwnas.search.feasibility import fastest
from hwnas.search.problem import Problem
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.space.vectors import Moves, filled

__all__ = [
    "DEVIATION",
    "ProposingSampler",
    "distributions",
    "params_of",
    "quiet_optuna",
    "vector_of",
]

ATTEMPTS_TO_BE_NEW = 60
DEVIATION = "deviation"
"""The trial's user attribute with the standard deviation of its last value, where one is known."""


def distributions(space: SearchSpace, *, categorical: bool = False) -> dict[str, BaseDistribution]:
    """Optuna's ranges: the number of the choice, for each decision that has more than one.

    With `categorical`, unordered decisions are categories to Optuna: a sampler that models distances
    needs that; the others don't, and Optuna handles whole numbers twice as fast.
    """
    ranges: dict[str, BaseDistribution] = {}
    for decision in space.decisions:
        count = len(decision.choices)
        if count > 1 and categorical and not decision.ordinal:
            ranges[decision.name] = CategoricalDistribution(tuple(range(count)))
        elif count > 1:
            ranges[decision.name] = IntDistribution(0, count - 1)
    return ranges


def params_of(space: SearchSpace, vector: Vector) -> dict[str, int]:
    """Optuna's parameters of a network."""
    named = zip(space.decisions, filled(space, vector), strict=True)
    return {decision.name: value for decision, value in named if len(decision.choices) > 1}


def vector_of(space: SearchSpace, params: Mapping[str, Any]) -> Vector:
    """The network that Optuna's parameters mean, or the nearest one."""
    return space.repair([int(params.get(decision.name, 0)) for decision in space.decisions])


class ProposingSampler(BaseSampler, abc.ABC):
    """Proposes new networks within the budget; a subclass says which.

    The study minimises what is known beforehand (`Problem.known_objectives`: latency in ms) and
    maximises a score, such as the lower bound of accuracy, in this order. Several trials may be under
    way at once: none of their networks is proposed again.
    """

    def __init__(self, problem: Problem, *, seed: int, categorical: bool = False) -> None:
        self.problem = problem
        self.seed = seed
        self.moves = Moves(problem.space)
        self.known: dict[Vector, tuple[float, ...]] = {}
        """A trial's values (the score last), for each network that is finished, in their order."""
        self.deviations: dict[Vector, float] = {}
        """The estimator's own standard deviation of each, 0 where it has none."""
        self.ranges = distributions(problem.space, categorical=categorical)
        """What a study with this sampler asks for: `study.ask(sampler.ranges)`."""
        self.ahead: int | None = None
        """How many are always asked for before the values of the first of them are told; None: any."""
        self._fastest: Vector | None = None
        self._under_way: dict[int, Vector] = {}  # by trial number: proposed here, not finished
        self._elsewhere: tuple[Vector, ...] = ()  # what other processes are evaluating
        self._seen: set[int] = set()  # numbers of trials that were proposed here or are learnt
        self._repeats = 0
        self._lock = threading.Lock()

    @abc.abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> Vector:
        """A network worth evaluating; may be known, or over the budget: that is mended afterwards."""

    @property
    def fastest(self) -> Vector:
        """The fastest network of the space."""
        if self._fastest is None:
            self._fastest = fastest(self.problem)
        return self._fastest

    @property
    def pending(self) -> tuple[Vector, ...]:
        """Networks that are being evaluated, here or in another process of the study."""
        return (*self._under_way.values(), *self._elsewhere)

    def take_up(self, number: int, vector: Vector) -> None:
        """Counts the network as being evaluated, in the study's trial of that number."""
        self._under_way[number] = vector
        self._seen.add(number)

    def is_taken(self, vector: Vector) -> bool:
        """Whether the network is evaluated, or being evaluated."""
        return vector in self.known or vector in self.pending

    def suggest(self, trial: BaseTrial) -> ArchSpec:
        """The network of a trial, for an objective of one's own."""
        params: dict[str, Any] = {}
        for name, range_ in self.ranges.items():
            if isinstance(range_, CategoricalDistribution):
                params[name] = trial.suggest_categorical(name, range_.choices)
            elif isinstance(range_, IntDistribution):
                params[name] = trial.suggest_int(name, range_.low, range_.high)
        return self.problem.space.decode(vector_of(self.problem.space, params))

    def mended(self, vector: Vector, rng: np.random.Generator) -> Vector:
        """A network near `vector` that fits the budget and is not taken.

        A taken one comes back when none is found: then the space holds few others, or none.
        """
        fits = self.problem.is_feasible
        near = vector
        for attempt in range(ATTEMPTS_TO_BE_NEW):
            if not fits(near):
                near = self._row(
                    self.moves.shrunk(np.array([near]), self.fastest, rng, feasible=self.problem.feasible)
                )
            if not self.is_taken(near) and fits(near):
                return near
            start = near if attempt % 8 else vector
            near = self._row(self.moves.neighbours(np.array([start]), rng, changes=1 + attempt // 20))
        return near if fits(near) else self.fastest

    @staticmethod
    def _row(vectors: np.typing.NDArray[np.int64]) -> Vector:
        row: Vector = tuple(vectors[0].tolist())
        return row

    # --- what Optuna calls ---

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.ranges

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A network's parameters, as far as `search_space` has them.

        Raises UsageError for a parameter or a range that the space of the problem does not have.
        """
        foreign = [name for name, range_ in search_space.items() if self.ranges.get(name) != range_]
        if foreign:
            raise UsageError(
                f"this sampler proposes networks of space '{self.problem.space.name}', got another search "
                f"space: {', '.join(foreign[:5])}. Ask with study.ask(sampler.ranges), or call "
                "sampler.suggest(trial) in the objective"
            )
        with self._lock:
            self._look_around(study, trial.number)
            place = len(self.known) + len(self.pending)
            rng = np.random.default_rng([self.seed % 2**63, place, self._repeats])
            vector = self.mended(self.propose(study, trial, rng), rng)
            self._under_way[trial.number] = vector
            params = params_of(self.problem.space, vector)
            return {name: params[name] for name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # A parameter that is none of the space's: the objective asked for it on its own account.
        own = RandomSampler(seed=random.Random(f"{self.seed}/{trial.number}/{param_name}").getrandbits(32))
        return own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        with self._lock:
            self._under_way.pop(trial.number, None)
            self._seen.add(trial.number)
            if state == TrialState.COMPLETE and values is not None:
                self._repeats = 0
                self._learn(trial, values)
            else:
                self._repeats += 1

    def _look_around(self, study: Study, number: int) -> None:
        """Learns the trials that did not pass through here: of before, or of other processes."""
        everything_below_is_seen = len(self._seen) == number
        self._seen.add(number)
        if everything_below_is_seen:
            return
        elsewhere = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number in self._seen:
                continue
            if trial.state.is_finished():
                self._seen.add(trial.number)
                if trial.state == TrialState.COMPLETE:
                    self._learn(trial, trial.values)
            elif trial.params:
                elsewhere.append(vector_of(self.problem.space, trial.params))
        self._elsewhere = tuple(elsewhere)

    def _learn(self, trial: FrozenTrial, values: Sequence[float]) -> None:
        vector = vector_of(self.problem.space, trial.params)
        self.known[vector] = tuple(values)
        if DEVIATION in trial.user_attrs:
            self.deviations[vector] = float(trial.user_attrs[DEVIATION])
        else:
            self.deviations.setdefault(vector, 0.0)


# --- Optuna without log output ----------------------------------------------------------------


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Neither the name of each new study nor that a feature is experimental is said."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
