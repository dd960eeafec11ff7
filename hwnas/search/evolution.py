"""Search in arrays, for an accuracy estimator that answers for many networks at once in microseconds.

An NSGA-II (Deb et al. 2002) on the vectors of the space: the population's children are compared by the
known objectives and by the lower bound of the accuracy, and only feasible ones count. There is no
surrogate, no study, and no architecture until a network is recorded.

Of a space of at most `ENUMERABLE` networks every one is evaluated instead, and the front is exact.

The search goes in epochs of a few generations. After each, the networks of the population are recorded
and the next population is selected among all recorded ones, so the record alone is the state: a search
that was interrupted repeats its last epoch and ends with the same record, line for line. It converges
when the hypervolume of the front has grown by less than `GROWTH` over the last `PATIENCE` epochs. A search
that begins with a whole population of another run, up to its own limits, needs neither random networks nor
that patience: it converges after one epoch of less than a third of that growth.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.estimate import ArrayPredictor
from hwnas.search import pareto
from hwnas.search.feasibility import fastest
from hwnas.search.initial import presets_within_budget, spread_networks
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial
from hwnas.search.variation import children
from hwnas.space.vectors import Moves
from hwnas.types import Bools, Floats, Ints

__all__ = ["GROWTH", "PATIENCE", "Epoch", "evolve"]

POPULATION = 500
CHILDREN = 3000
"""Of a generation, before infeasible and known ones are dropped."""
GENERATIONS = 5
"""Of an epoch."""
RETYPED = 0.08
"""Share of the children that get another attention in all blocks of each stage."""
GROWTH = 0.001
"""Relative growth of the hypervolume below which a search has converged."""
PATIENCE = 3
"""Epochs over which the growth is taken."""
MOST_EPOCHS = 100
REACHES = 0.95
"""Share of a limit that some network of a population uses, where it covers all latencies."""
ENUMERABLE = 300_000
"""Networks of a space that are all evaluated, within seconds."""
CHUNK = 50_000
"""Networks of a whole space that are evaluated at once."""
DECIMALS = 8
"""Of what is compared and recorded: functions of arrays differ in their last digits by the arrays' length."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The state of a search after an epoch; a line of `progress.jsonl`."""

    number: int
    """0: the initial population."""
    evaluated: int
    """Networks evaluated so far."""
    recorded: int
    """Networks in the record."""
    front: int
    """Networks on the front of all recorded."""
    hypervolume: float
    """Of the front, as a share of the box between the limits and the best of each objective in epoch 0."""
    converged: bool = False
    exact: bool = False
    """Whether every network of the space was evaluated."""


@dataclass(frozen=True, slots=True)
class _Networks:
    """Feasible networks with their values; one that may run in several configurations has a row for each."""

    vectors: Ints
    """(n, decisions)"""
    points: Floats
    """(n, objectives + 1): the known objectives and the negated lower bound of the accuracy, less penalty."""
    values: Floats
    """(n,): estimated accuracy, without a configuration's penalty."""
    stds: Floats
    """(n,): its standard deviation."""

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Ints | Bools) -> _Networks:
        return _Networks(self.vectors[rows], self.points[rows], self.values[rows], self.stds[rows])

    def joined(self, other: _Networks) -> _Networks:
        return _Networks(
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.points, other.points]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.stds, other.stds]),
        )


def evolve(
    problem: Problem,
    accuracy: ArrayPredictor,
    *,
    seed: int,
    recorded: Sequence[Trial],
    given: int,
    epochs: Sequence[Epoch],
    on_epoch: Callable[[Sequence[Trial], Epoch], None],
    stop: Callable[[], bool],
) -> None:
    """Searches until it converges or `stop()`; hands what is to be recorded to `on_epoch`.

    `recorded` and `epochs` are what an interrupted search has recorded. Its first `given` networks were
    there before it began: they are part of the initial population.
    """
    if epochs and epochs[-1].converged:
        return
    search = _Evolution(problem, accuracy, seed=seed)
    known = epochs[-1].recorded if epochs else given
    exact = problem.space.size <= ENUMERABLE
    everyone = search.networks(_vectors(problem, recorded[:known]))
    already = {trial.vector for trial in recorded[known:]}  # of an epoch that was not finished
    history = list(epochs)
    begun_with = search.networks(_vectors(problem, recorded[:given])) if epochs else everyone
    patience = 1 if search.is_populated(begun_with) else PATIENCE
    while not (history and history[-1].converged) and not stop():
        number = len(history)
        if exact:
            found = search.every(everyone, stop)
            if found is None:
                return
            new, evaluated = found
        elif number == 0:
            new, evaluated = search.initial(everyone, spread=patience > 1)
        else:
            new, evaluated = search.epoch(everyone, number)
        everyone = everyone.joined(search.networks(new))
        if number == 0:
            search.set_box(everyone)
        elif not search.has_box:
            search.set_box(search.networks(_vectors(problem, recorded[: history[0].recorded])))
        known += len(new)
        front = np.array(pareto.front(everyone.points), dtype=np.int64)
        state = Epoch(
            number,
            evaluated + (history[-1].evaluated if history else 0),
            known,
            len(front),
            search.hypervolume(everyone.points[front]),
            exact=exact,
        )
        exhausted = exact or (number > 0 and not len(new))
        history.append(_converged(history, state, exhausted=exhausted, patience=patience))
        fresh = [row for row, vector in enumerate(map(tuple, new.tolist())) if vector not in already]
        on_epoch(search.trials(new[fresh]), history[-1])
        already = set()


def _converged(history: Sequence[Epoch], state: Epoch, *, exhausted: bool, patience: int = PATIENCE) -> Epoch:
    before = history[-patience].hypervolume if len(history) >= patience else 0.0
    growth = GROWTH * patience / PATIENCE
    done = exhausted or state.number >= MOST_EPOCHS or state.hypervolume <= before * (1 + growth)
    return dataclasses.replace(state, converged=done)


class _Evolution:
    """The steps of a search."""

    def __init__(self, problem: Problem, accuracy: ArrayPredictor, *, seed: int) -> None:
        self._problem = problem
        self._accuracy = accuracy
        self._seed = seed % 2**63
        self._moves = Moves(problem.space)
        self._hash = np.random.default_rng(0).integers(
            1, 2**62, size=len(problem.space.decisions), dtype=np.int64
        )
        self._box: tuple[Floats, Floats] | None = None

    def networks(self, vectors: Ints) -> _Networks:
        """Feasible networks with their values, in each configuration that is within the budget."""
        known = self._problem.known_objectives(vectors)
        values, stds = self._estimated(vectors)
        points = np.round(np.column_stack([known, stds - values]), DECIMALS).astype(float)
        networks = _Networks(vectors, points, values, stds)
        if not self._problem.configurations:
            return networks
        parts = []
        for rows, latencies_ms, penalty in self._problem.configured(vectors):
            part = networks[rows]
            part.points[:, 0] = np.round(latencies_ms, DECIMALS)
            part.points[:, -1] += penalty
            parts.append(part)
        return functools.reduce(_Networks.joined, parts)

    def every(self, given: _Networks, stop: Callable[[], bool]) -> tuple[Ints, int] | None:
        """What is recorded of a space that is evaluated as a whole, and how many networks were evaluated.

        The front, the best `POPULATION` in the order of the ranks, and as many spread over the latencies.
        None when `stop()`.
        """
        quickest = fastest(self._problem)
        rng = np.random.default_rng([self._seed, 0])
        best, evaluated = given, 0
        for vectors in self._moves.every(CHUNK):
            if stop():
                return None
            born = vectors[self._problem.feasible(vectors)]
            evaluated += len(born)
            best = best.joined(self.networks(born))
            best = best[_front_and_more(best.points)]
        spread = spread_networks(self._problem, self._moves, quickest, POPULATION, rng)
        return self._unrecorded(np.concatenate([best.vectors, spread]), given), evaluated

    def is_populated(self, given: _Networks) -> bool:
        """Whether the networks given are a population that reaches the limits."""
        return len(given) >= POPULATION and float(self._problem.usages(given.vectors).max()) > REACHES

    def initial(self, given: _Networks, *, spread: bool) -> tuple[Ints, int]:
        """The initial population without the networks given, and how many networks were evaluated.

        With `spread`, random networks over all latencies are in it.
        """
        quickest = fastest(self._problem)
        rng = np.random.default_rng([self._seed, 0])
        chosen = [*presets_within_budget(self._problem), quickest]
        drawn = spread_networks(self._problem, self._moves, quickest, POPULATION if spread else 0, rng)
        vectors = np.concatenate([np.array(chosen, dtype=np.int64), drawn])
        new = self._unrecorded(vectors, given)
        return new, len(new)

    def epoch(self, recorded: _Networks, number: int) -> tuple[Ints, int]:
        """What an epoch adds to the record: its last population. And how many networks it evaluated."""
        rng = np.random.default_rng([self._seed, number])
        population = recorded[pareto.survivors(recorded.points, POPULATION)]
        evaluated = 0
        for _ in range(GENERATIONS):
            born = children(self._moves, population.vectors, population.points[:, :-1], CHILDREN, rng)
            retyped = rng.random(len(born)) < RETYPED
            born[retyped] = self._moves.retyped(born[retyped], rng)
            born = self._unrecorded(born, population)
            born = born[self._problem.feasible(born)]
            if not len(born):
                continue
            evaluated += len(born)
            both = population.joined(self.networks(born))
            population = both[pareto.survivors(both.points, POPULATION)]
        return self._unrecorded(population.vectors, recorded), evaluated

    def trials(self, vectors: Ints) -> list[Trial]:
        """What is recorded of networks."""
        if not len(vectors):
            return []
        values, stds = self._estimated(vectors)
        accuracies = [
            self._accuracy.estimate(value, std)
            for value, std in zip(values.tolist(), stds.tolist(), strict=True)
        ]
        return self._problem.evaluated([tuple(row) for row in vectors.tolist()], accuracies)

    @property
    def has_box(self) -> bool:
        return self._box is not None

    def set_box(self, networks: _Networks) -> None:
        """Takes the box of the hypervolume from the networks of epoch 0."""
        best, worst = networks.points.min(axis=0), networks.points.max(axis=0)
        for place, quantity in enumerate(self._problem.objectives):
            limit = self._problem.limit_of(quantity)
            worst[place] = worst[place] if limit is None else limit
        worst[-1] = np.median(networks.points[:, -1])
        self._box = best, np.maximum(worst, best + 1e-9)

    def hypervolume(self, points: Floats) -> float:
        """The volume that a front dominates, as a share of the box."""
        assert self._box is not None
        best, worst = self._box
        return pareto.hypervolume((points - best) / (worst - best), [1.0] * len(best))

    def _estimated(self, vectors: Ints) -> tuple[Floats, Floats]:
        values, stds = self._accuracy.predict_many(vectors, self._problem.space)
        return np.round(values, DECIMALS), np.round(stds, DECIMALS)

    def _unrecorded(self, vectors: Ints, known: _Networks) -> Ints:
        """The vectors that are not among the known ones, each network once."""
        hashes, first = np.unique(vectors @ self._hash, return_index=True)
        return np.asarray(vectors[np.sort(first[~np.isin(hashes, known.vectors @ self._hash)])])


def _front_and_more(points: Floats) -> Ints:
    """Rows of the front, and of the next ranks until there are `POPULATION`."""
    ranks = pareto.ranks(points, at_least=POPULATION)
    return np.array(sorted(row for rank in ranks for row in rank), dtype=np.int64)


def _vectors(problem: Problem, trials: Sequence[Trial]) -> Ints:
    rows = [trial.vector for trial in trials]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(problem.space.decisions))
