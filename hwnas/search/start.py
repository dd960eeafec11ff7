"""A fair start: what is evaluated before anything can be learnt.

The presets within the budget, the fastest network, and random ones, each kind spread over latency.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hwnas.search.moves import Moves
from hwnas.search.problem import Problem, Vector
from hwnas.search.surrogate_gain import halton
from hwnas.space.presets import preset, preset_names

__all__ = ["START", "fair_start", "random_network"]

START = 24
"""Networks before a surrogate is first asked."""
PRESETS = 8
"""At most so many of them are presets."""


def fair_start(problem: Problem, moves: Moves, fastest: Vector, *, seed: int) -> Iterator[Vector]:
    """The first networks of a search, at most `START`, all within the budget; a few may come twice."""
    rng = np.random.default_rng([seed % 2**63, START])
    chosen = dict.fromkeys(_presets_within_budget(problem))
    chosen[fastest] = None
    yield from chosen
    for share in halton(START - len(chosen), 1)[:, 0]:
        yield random_network(problem, moves, fastest, float(share), rng)


def random_network(
    problem: Problem, moves: Moves, fastest: Vector, share: float, rng: np.random.Generator
) -> Vector:
    """A random network, shrunk until its latency is below `share` of the way up to the budget."""
    least_ms = problem.cost_ms(fastest)
    limit_ms = least_ms + share * (problem.budget_ms - least_ms)

    def fit(vectors: NDArray[np.int64]) -> NDArray[np.bool_]:
        return problem.fit(vectors) & (problem.latencies_ms(vectors) <= limit_ms)

    # With one attention in a stage, each says more of what that attention does there.
    drawn = moves.random(1, rng, even=True)
    row: Vector = tuple(moves.shrunk(drawn, fastest, rng, fit=fit)[0].tolist())
    return row


def _presets_within_budget(problem: Problem) -> list[Vector]:
    """At most `PRESETS` of them, from the fastest to the slowest."""
    space = problem.space
    archs = [preset(name).adapted(classes=space.classes) for name in preset_names()]
    vectors = dict.fromkeys(space.encode(arch) for arch in archs if space.contains(arch))
    within = sorted(filter(problem.fits, vectors), key=problem.cost_ms)
    spread = np.linspace(0, len(within) - 1, min(PRESETS, len(within))).astype(int)
    return [within[place] for place in spread]
