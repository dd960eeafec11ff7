"""The fastest network of a space: what an infeasible budget is answered with."""

from __future__ import annotations

from hwnas.errors import InfeasibleError
from hwnas.search.problem import Problem
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.space.vectors import filled

__all__ = ["fastest", "require_feasible"]


def fastest(problem: Problem) -> Vector:
    """The vector of the network that costs least, by coordinate descent over all decisions.

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
    ends = [_descended(problem, space, start) for start in starts]
    return min(ends, key=lambda vector: (problem.cost_ms(vector), vector))


def require_feasible(problem: Problem, *, device: str, provenance: str) -> Vector:
    """The fastest network's vector; raises InfeasibleError, naming it, when even that is too slow."""
    vector = fastest(problem)
    cost_ms = problem.cost_ms(vector)
    if cost_ms > problem.budget_ms:
        arch = problem.space.decode(vector)
        if len(problem.bounds) > 1:
            raise InfeasibleError(_all_bounds(problem, vector, device, provenance))
        raise InfeasibleError(
            f"no network of space '{problem.space.name}' runs within {problem.budget_ms:g} ms on {device}: "
            f"the fastest possible takes {cost_ms:.4g} ms {provenance} (network {arch.id}). "
            f"Give a budget above that, another device, or a space with smaller networks (--space)"
        )
    return vector


def _all_bounds(problem: Problem, vector: Vector, device: str, provenance: str) -> str:
    """What the network that comes nearest to all bounds has of each."""
    has = [
        f"{bound.quantity.name}{f' {device}' if bound is problem.bounds[0] else ''} "
        f"{bound.quantity.held([vector])[0]:.4g} of {bound.limit:.4g} {bound.quantity.unit}".rstrip()
        for bound in problem.bounds
    ]
    return (
        f"no network of space '{problem.space.name}' was found that keeps all bounds: the one that comes "
        f"nearest (network {problem.space.decode(vector).id}) has {', '.join(has)} (latencies {provenance}). "
        f"Raise the bounds that are exceeded, or give a space with smaller networks (--space)"
    )


def _descended(problem: Problem, space: SearchSpace, start: Vector) -> Vector:
    best, best_ms = start, problem.cost_ms(start)
    improved = True
    while improved:
        improved = False
        for place, decision in enumerate(space.decisions):
            for choice in range(len(decision.choices)):
                values = list(filled(space, best))
                values[place] = choice
                vector = space.repair(values)
                if (cost_ms := problem.cost_ms(vector)) < best_ms:
                    best, best_ms, improved = vector, cost_ms, True
    return best
