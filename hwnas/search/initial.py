"""Initial candidates: presets within the budget, the fastest network, random ones; spread over latency."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hwnas.search.problem import Problem
from hwnas.space.presets import preset, preset_names
from hwnas.space.search_space import Vector
from hwnas.space.vectors import Moves
from hwnas.types import Bools, Ints

__all__ = ["START", "fair_start", "presets_within_budget", "random_network", "spread_networks"]


START = 24
"""Networks before a surrogate is first asked."""
PRESETS = 8
"""At most so many of them are presets."""


def fair_start(problem: Problem, moves: Moves, fastest: Vector, *, seed: int) -> Iterator[Vector]:
    """The first networks of a search, at most `START`, all within the budget; a few may come twice."""
    rng = np.random.default_rng([seed % 2**63, START])
    chosen = dict.fromkeys(presets_within_budget(problem))
    chosen[fastest] = None
    yield from chosen
    from hwnas.search.surrogate.acquisition import halton

    for share in halton(START - len(chosen), 1)[:, 0]:
        yield random_network(problem, moves, fastest, float(share), rng)


def random_network(
    problem: Problem, moves: Moves, fastest: Vector, share: float, rng: np.random.Generator
) -> Vector:
    """A random network, shrunk until it uses at most `share` of the way from the fastest to the limits."""
    least = problem.usage(fastest)
    limit = least + share * (1 - least)

    def feasible(vectors: Ints) -> Bools:
        return np.asarray(problem.usages(vectors) <= limit)

    # With one attention in a stage, each says more of what that attention does there.
    drawn = moves.random(1, rng, even=True)
    row: Vector = tuple(moves.shrunk(drawn, fastest, rng, feasible=feasible)[0].tolist())
    return row


def presets_within_budget(problem: Problem) -> list[Vector]:
    """At most `PRESETS` of them, from the fastest to the slowest."""
    space = problem.space
    archs = [preset(name).adapted(classes=space.classes) for name in preset_names()]
    vectors = dict.fromkeys(space.encode(arch) for arch in archs if space.contains(arch))
    within = sorted(filter(problem.is_feasible, vectors), key=problem.usage)
    spread = np.linspace(0, len(within) - 1, min(PRESETS, len(within))).astype(int)
    return [within[place] for place in spread]


def spread_networks(
    problem: Problem, moves: Moves, fastest: Vector, number: int, rng: np.random.Generator
) -> Ints:
    """Random networks shrunk until they are within the limits, shape (number, decisions).

    Half of them have one attention in each stage. Each gets a limit of its own, evenly spread from the
    fastest network's to the problem's.
    """
    drawn = np.concatenate(
        [moves.random(number // 2, rng, even=True), moves.random(number - number // 2, rng)]
    )
    least = problem.usage(fastest)
    limits = least + (1 - least) * rng.permuted(np.linspace(1 / max(number, 1), 1, number))

    def feasible(vectors: Ints) -> Bools:
        return np.asarray(problem.usages(vectors) <= limits)

    return moves.shrunk(drawn, fastest, rng, feasible=feasible)
