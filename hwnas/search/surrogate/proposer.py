"""The search within the search: thousands of networks bred and judged by a surrogate, in arrays.

Only what fits the budget is bred. What is bred is judged by the hypervolume that it may add, and a
batch is chosen one by one: each choice counts as evaluated, with the score that is expected of it,
before the next (a Kriging believer; Ginsbourger et al. 2010).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from hwnas.search import pareto
from hwnas.search.history import Evaluated
from hwnas.search.problem import Problem
from hwnas.search.surrogate.acquisition import Gain
from hwnas.search.surrogate.features import Features
from hwnas.search.surrogate.gp import Settings, Surrogate, fitted_settings
from hwnas.search.variation import children
from hwnas.space.search_space import Vector
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

__all__ = ["SurrogateSearch"]


LEARNT_FROM = 500
"""At most so many networks make a surrogate."""
SETTINGS_FROM = 250
"""At most so many decide its settings."""
PARENTS = 60
GENERATIONS = 8
BRED = 300
"""Networks of a generation, at least."""
KEPT = 120
"""Of all generations so far, those that breed the next."""
STRANGE = 0.5
"""Of the first generation's size, so many random networks are judged besides, far from all parents, and as
many whose stages have other attentions than a parent's; no more once `LEARNT_FROM` are known."""
BINS = 12
"""Parts of the first known objective's range; each keeps its own best, so that all of it is bred."""
SHORTLIST = 160
"""The most promising, of which a batch is chosen one by one; what a batch needs beyond is taken as it is."""
BOLD_EVERY, BOLDNESS = 4, 3.0
"""One network in so many is chosen as if so many times as much were unknown: what is believed of a
combination of attentions that was hardly tried is mostly the others' doing, and noise hides that."""
BEHIND = 2.0
"""Times the median that a network may stay behind the best ones and still be told truly."""
BEYOND = 0.1
"""Share of a known objective's range up to which a network counts, beyond the worst evaluated."""


class SurrogateSearch:
    """Proposes batches of networks for one problem."""

    def __init__(self, problem: Problem, moves: Moves, *, fastest: Vector) -> None:
        self._problem = problem
        self._moves = moves
        self._features = Features(problem.space, moves)
        self._fastest = fastest
        self._least = problem.known_objectives([fastest])[0]
        # A few hundred rows are too few to share: threads that wait for each other take 3 to 4 times as long.
        self._one_thread = functools.partial(ThreadpoolController().limit, limits=1, user_api="blas")

    def settings(self, past: Evaluated) -> Settings:
        """What the surrogate believes of its function, given these."""
        past = past[_telling(past, SETTINGS_FROM)]
        scores, scale = _standard(past)
        features = self._features.of(past.vectors)
        with self._one_thread():
            return fitted_settings(features, scores, past.deviations / scale, self._features.groups)

    def batch(
        self,
        past: Evaluated,
        settings: Settings,
        number: int,
        rng: np.random.Generator,
        *,
        pending: Sequence[Vector] = (),
        taken: Set[Vector] | None = None,
    ) -> Ints:
        """New networks within the budget, the most promising first, shape (at most `number`, decisions).

        `pending` are those that are being evaluated now; `taken` holds all of `past`, where the caller has
        that at hand. Fewer come where the search finds no more.
        """
        taken = set(map(tuple, past.vectors.tolist())) if taken is None else taken
        with self._one_thread():
            return self._found(past, settings, number, rng, pending, taken)

    def _found(
        self,
        past: Evaluated,
        settings: Settings,
        number: int,
        rng: np.random.Generator,
        pending: Sequence[Vector],
        taken: Set[Vector],
    ) -> Ints:
        learnt = past[_telling(past, LEARNT_FROM)]
        scores, scale = _standard(learnt)
        features = self._features.of(learnt.vectors)
        surrogate = Surrogate(settings, features, scores, learnt.deviations / scale, self._features.groups)
        believed = surrogate.mean(features)  # what noise hides is not taken for a front
        gain = Gain(learnt.known, believed, ideal=self._ideal(past), reference=self._reference(past))
        if pending:
            waiting = np.array(pending, dtype=np.int64)
            means = surrogate.mean(self._features.of(waiting))
            for known, mean in zip(self._problem.known_objectives(waiting), means.tolist(), strict=True):
                gain.add(known, mean)
        ranked = pareto.ranks(np.column_stack([learnt.known, -believed]), at_least=PARENTS)
        parents = learnt.vectors[[row for rank in ranked for row in rank]]
        each = max(BRED, number // 2)
        strangers = self._strangers(parents, round(STRANGE * each) if len(past) < LEARNT_FROM else 0, rng)
        bred = self._bred(parents, strangers, surrogate, gain, each, rng, (taken, set(pending)))
        return self._chosen(bred, surrogate, gain, number, len(past) + len(pending))

    def _bred(
        self,
        parents: Ints,
        strangers: Ints,
        surrogate: Surrogate,
        gain: Gain,
        each: int,
        rng: np.random.Generator,
        taken: tuple[Set[Vector], set[Vector]],
    ) -> _Bred:
        """All new networks of some generations, the first of which has these parents and these strangers.

        `taken` are two sets of those that are not new; what is bred is added to the second.
        """
        before, bred = taken
        everyone = self._judged(parents[:0], surrogate, gain)
        breeding, known = parents, self._problem.known_objectives(parents)
        for _ in range(GENERATIONS):
            born = children(self._moves, breeding, known, each, rng)
            born = np.concatenate([born[self._problem.feasible(born)], strangers])
            strangers = strangers[:0]
            new = []
            for row, vector in enumerate(map(tuple, born.tolist())):
                if vector not in before and vector not in bred:
                    bred.add(vector)
                    new.append(row)
            everyone = everyone.joined(self._judged(born[new], surrogate, gain))
            best = everyone.best_by_bin(KEPT)
            breeding = np.concatenate([parents, everyone.vectors[best]])
            known = self._problem.known_objectives(breeding)
        return everyone

    def _strangers(self, parents: Ints, number: int, rng: np.random.Generator) -> Ints:
        """Random networks with one attention in each stage, shrunk until they are within the budget:
        `number` of them random in all, as many with all else as a parent has it."""
        drawn = self._moves.random(number, rng, even=True)
        retyped = self._moves.retyped(parents[rng.integers(0, len(parents), size=number)], rng)
        both = np.concatenate([drawn, retyped])
        return self._moves.shrunk(both, self._fastest, rng, feasible=self._problem.feasible)

    def _judged(self, vectors: Ints, surrogate: Surrogate, gain: Gain) -> _Bred:
        known = self._problem.known_objectives(vectors)
        means, deviations = surrogate.believed(self._features.of(vectors))
        return _Bred(vectors, known, means, deviations, gain.expected(known, means, deviations))

    def _chosen(self, bred: _Bred, surrogate: Surrogate, gain: Gain, number: int, before: int) -> Ints:
        """So many of them, those that promise most together first; `before` were chosen earlier."""
        order = np.argsort(-bred.gains, kind="stable")
        bold = np.argsort(-gain.expected(bred.known, bred.means, BOLDNESS * bred.deviations), kind="stable")
        short = np.unique(np.concatenate([order[:SHORTLIST], bold[: SHORTLIST // 4]]))
        unknown = surrogate.covariance(self._features.of(bred.vectors[short]))
        chosen: list[int] = []
        open_rows = np.ones(len(short), dtype=bool)
        while len(chosen) < min(number, len(short) // 2):
            deviations = np.sqrt(np.maximum(np.diag(unknown), 1e-12))
            if (before + len(chosen)) % BOLD_EVERY == 0:
                deviations *= BOLDNESS
            gains = gain.expected(bred.known[short], bred.means[short], deviations)
            row = int(np.argmax(np.where(open_rows, gains, -1.0)))
            open_rows[row] = False
            chosen.append(int(short[row]))
            gain.add(bred.known[short[row]], float(bred.means[short[row]]))
            learnt = unknown[:, row] / (unknown[row, row] + surrogate.noise**2)
            unknown = unknown - np.outer(learnt, unknown[row])
        rest = order[~np.isin(order, chosen)][: number - len(chosen)]
        return bred.vectors[[*chosen, *rest.tolist()]]

    def _ideal(self, past: Evaluated) -> Floats:
        """The best of each known objective that is known to be possible."""
        least: Floats = np.minimum(self._least, past.known.min(axis=0))
        return least

    def _reference(self, past: Evaluated) -> Floats:
        """Up to where a network counts: its limit, or a little beyond the worst where there is none."""
        worst = past.known.max(axis=0)
        reference: Floats = worst + BEYOND * (worst - self._ideal(past))
        for place, quantity in enumerate(self._problem.objectives):
            limit = self._problem.limit_of(quantity)
            if limit is not None:
                reference[place] = limit
        return reference


@dataclass(frozen=True, slots=True)
class _Bred:
    """Networks that were bred, and what is believed of them."""

    vectors: Ints
    known: Floats
    means: Floats
    deviations: Floats
    gains: Floats

    def joined(self, other: _Bred) -> _Bred:
        return _Bred(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("vectors", "known", "means", "deviations", "gains")
            )
        )

    def best_by_bin(self, number: int) -> Ints:
        """Rows of the best of each part of the first known objective's range, `number` in all."""
        if not len(self.known):
            return np.empty(0, dtype=np.int64)
        edges = np.quantile(self.known[:, 0], np.linspace(0, 1, BINS + 1)[1:-1])
        bins = np.searchsorted(edges, self.known[:, 0])
        order = np.lexsort([-self.gains, bins])
        starts = np.searchsorted(bins[order], bins[order])  # where each row's bin begins
        return order[np.arange(len(order)) - starts < number // BINS]


def _telling(past: Evaluated, limit: int) -> Ints:
    """At most `limit` networks that say most of where the front goes on: half best, half from all over."""
    if len(past.scores) <= limit:
        return np.arange(len(past.scores))
    ranked = pareto.ranks(np.column_stack([past.known, -past.scores]), at_least=limit // 2)
    best = [row for rank in ranked for row in rank][: limit // 2]
    others = np.setdiff1d(np.arange(len(past.scores)), best)
    spread = others[np.linspace(0, len(others) - 1, limit - len(best)).astype(np.int64)]
    return np.sort(np.concatenate([best, spread]))


def _standard(past: Evaluated) -> tuple[Floats, float]:
    """Scores with mean 0 and variance 1, and what they were divided by.

    How far a network stays behind the best that is nowhere worse in what is known is told truly up to
    a few times the usual, and by its logarithm beyond: how bad the bad are teaches nothing of a front.
    """
    as_good = (past.known[None] <= past.known[:, None]).all(axis=2)
    best = np.where(as_good, past.scores, -np.inf).max(axis=1)
    behind = best - past.scores
    usual = max(BEHIND * float(np.median(behind)), 1e-9)
    told = np.where(behind > usual, usual * (1 + np.log(np.maximum(behind, usual) / usual)), behind)
    scores = best - told
    scale = max(float(scores.std()), 1e-9)
    return (scores - scores.mean()) / scale, scale
