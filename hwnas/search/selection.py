"""Which evaluated networks make the front that a person is shown.

The search climbs a lower bound of accuracy (value - std), so that it does not run to where nothing
is known. A reader compares values. The front holds both ways: no network on it has another on it
that is at least as fast and at least as accurate, be it by value or by lower bound.

Numbers are compared as they are printed, with four significant digits: networks that print the
same are one point, and the smaller one stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.search import pareto
from hwnas.search.candidate import Trial

__all__ = ["as_printed", "best"]

DIGITS = 4


def as_printed(value: float) -> float:
    """`value` with four significant digits: 19.4438 -> 19.44."""
    return float(f"{value:.{DIGITS}g}")


def best(trials: Sequence[Trial]) -> list[Trial]:
    """The front of the trials, best accuracy first (and so slowest first).

    First the non-dominated ones in latency and lower bound; of these, the non-dominated ones in
    latency and value (points equal in one of the pairs differ in the other, so none is left twice).
    """
    by_point: dict[tuple[float, float, float], Trial] = {}
    for trial in trials:
        point = (
            as_printed(trial.latency.value),
            -as_printed(trial.accuracy.lower_bound()),
            -as_printed(trial.accuracy.value),
        )
        other = by_point.get(point)
        if other is None or (trial.params, trial.id) < (other.params, other.id):
            by_point[point] = trial
    kept = list(by_point)
    for objective in (1, 2):  # lower bound, then value
        kept = [kept[index] for index in pareto.front([(point[0], point[objective]) for point in kept])]
    kept.sort(key=lambda point: (point[2], point[0]))
    return [by_point[point] for point in kept]
