"""Which evaluated networks make the front that a person is shown.

The search climbs a lower bound of accuracy (value - std), so that it does not run to where nothing
is known. A reader compares values. The front holds both ways: no network on it has another on it
that is at least as fast and at least as accurate, be it by value or by lower bound.

Numbers are compared as they are printed, with four significant digits: networks that print the
same are one point, and the smaller one stands for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from hwnas.search import pareto
from hwnas.search.trial import Trial

__all__ = ["as_printed", "best"]

DIGITS = 4

Point = tuple[float, float, float]
"""Latency, then lower bound and value of the accuracy, both negated: smaller is better throughout."""


def as_printed(value: float) -> float:
    """`value` with four significant digits: 19.4438 -> 19.44."""
    return float(f"{value:.{DIGITS}g}")


def best(
    trials: Sequence[Trial],
    *,
    kind: Callable[[Trial], Hashable] = lambda trial: None,
    minimised: Sequence[str] = ("latency",),
) -> list[Trial]:
    """The front of the trials, best accuracy first (and so slowest first).

    These are networks that no other trial dominates in latency and lower bound. Where values and
    lower bounds order two of them differently, only one can be shown. So the heaviest set without
    such a pair is taken: every network weighs a little, and every `kind` (such as the attention types
    in use) weighs the same in all, lest the most frequent one push the others out.

    `minimised` names what is minimised (`Trial.number`). Of more than one such quantity there is no order
    to weigh chains in: then the front by lower bounds is taken, and of it the front by values.
    """
    if len(minimised) > 1:
        return _best_of_several(trials, minimised)
    by_point: dict[Point, Trial] = {}
    for trial in trials:
        point = (
            as_printed(trial.number(minimised[0])),
            -as_printed(trial.accuracy.lower_bound()),
            -as_printed(trial.accuracy.value),
        )
        other = by_point.get(point)
        if other is None or (trial.params, trial.id) < (other.params, other.id):
            by_point[point] = trial
    points = list(by_point)
    points = sorted(points[index] for index in pareto.front([point[:2] for point in points]))
    kinds = [kind(by_point[point]) for point in points]
    frequency = Counter(kinds)
    weights = [1 / len(points) + 1 / frequency[each] for each in kinds]
    return [by_point[point] for point in reversed(_heaviest_chain(points, weights))]


def _best_of_several(trials: Sequence[Trial], minimised: Sequence[str]) -> list[Trial]:
    """Networks that none other dominates, by lower bound and then by value of the accuracy."""
    by_point: dict[tuple[float, ...], Trial] = {}
    for trial in trials:
        known = tuple(as_printed(trial.number(name)) for name in minimised)
        accuracy = trial.accuracy
        point = (*known, -as_printed(accuracy.lower_bound()), -as_printed(accuracy.value))
        other = by_point.get(point)
        if other is None or (trial.params, trial.id) < (other.params, other.id):
            by_point[point] = trial
    points = list(by_point)
    for left_out in (-1, -2):
        places = [place for place in range(len(minimised) + 2) if place != len(minimised) + 2 + left_out]
        points = [points[i] for i in pareto.front([[point[place] for place in places] for point in points])]
    return [by_point[point] for point in sorted(points, key=lambda point: (point[-1], point))]


def _heaviest_chain(points: Sequence[Point], weights: Sequence[float]) -> list[Point]:
    """Of points sorted by latency, the heaviest that get strictly better in value as they get slower.

    The weighted longest increasing subsequence, in O(N^2).
    """
    totals, before = list(weights), [-1] * len(points)
    for index, (latency, _, value) in enumerate(points):
        for earlier in range(index):
            if (
                points[earlier][0] < latency
                and points[earlier][2] > value
                and totals[earlier] + weights[index] > totals[index]
            ):
                totals[index], before[index] = totals[earlier] + weights[index], earlier
    chain, index = list[Point](), max(range(len(points)), key=totals.__getitem__, default=-1)
    while index >= 0:
        chain.append(points[index])
        index = before[index]
    return chain[::-1]
