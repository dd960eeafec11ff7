"""The fastest network of a space, and the error for a budget that it exceeds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hwnas.errors import InfeasibleError
from hwnas.search.problem import ROUNDING, Problem
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.space.vectors import Moves, filled

__all__ = ["fastest", "require_feasible"]


@lru_cache(maxsize=1)
def fastest(problem: Problem) -> Vector:
    """The vector of the network that uses least of its limits, by coordinate descent over all decisions.

    Each decision in turn takes its cheapest choice given the others, until none can be improved;
    from the smallest and from the largest choices, and the better end is taken. Latency is a sum
    over ops that grow with each decision, for which this finds the minimum; the tests compare it
    with enumeration.
    """
    space = problem.space
    starts = (
        space.repair([0] * len(space.decisions)),
        space.repair([len(decision.choices) - 1 for decision in space.decisions]),
    )
    moves = Moves(space)
    ends = [_descended(problem, space, moves, start) for start in starts]
    return min(ends, key=lambda vector: (problem.usage(vector), vector))


def require_feasible(problem: Problem, *, provenance: str) -> Vector:
    """The fastest network's vector; raises InfeasibleError, naming it, when even that exceeds a limit."""
    vector = fastest(problem)
    if problem.is_feasible(vector):
        return vector
    arch = problem.space.decode(vector)
    if len(problem.constraints) > 1:
        raise InfeasibleError(_all_limits(problem, vector, provenance))
    [constraint], [target] = problem.constraints, problem.targets
    raise InfeasibleError(
        f"no network of space '{problem.space.name}' runs within {target.budget_ms:g} ms on {target.device}: "
        f"the fastest possible takes {constraint.quantity.bound_value([vector])[0]:.4g} ms {provenance} "
        f"(network {arch.id}). Give a budget above that, another device, or a space with smaller networks "
        "(--space)"
    )


def _all_limits(problem: Problem, vector: Vector, provenance: str) -> str:
    """What the network that comes nearest to all limits has of each."""
    first = problem.constraints[0]
    has = [
        f"{one.quantity.name}{f' {problem.targets[0].device}' if one is first else ''} "
        f"{one.quantity.bound_value([vector])[0]:.4g} of {one.limit:.4g} {one.quantity.unit}".rstrip()
        for one in problem.constraints
    ]
    return (
        f"no network of space '{problem.space.name}' is within all limits: the nearest "
        f"(network {problem.space.decode(vector).id}) has {', '.join(has)} (latencies {provenance}). "
        f"Raise the limits that are exceeded, or give a space with smaller networks (--space)"
    )


def _descended(problem: Problem, space: SearchSpace, moves: Moves, start: Vector) -> Vector:
    best, least = start, problem.usage(start)
    improved = True
    while improved:
        improved = False
        for place, decision in enumerate(space.decisions):
            tried = np.repeat([filled(space, best)], len(decision.choices), axis=0)
            tried[:, place] = np.arange(len(decision.choices))
            tried = moves.repaired(tried)
            usages = problem.usages(tried)
            row = int(np.argmin(usages))
            if usages[row] < least * (1 - ROUNDING):
                best, least, improved = tuple(tried[row].tolist()), float(usages[row]), True
    return best
