"""How the hypervolume grew over the evaluations of a run, against a reference point that is said.

Points hold what is minimised (latency in ms first) and, last, the accuracy: the lower bound that a
search maximises, which is the estimate less one standard deviation, or the estimate itself where the
estimator gives none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.report.dimensions import dimensions
from hwnas.search import pareto
from hwnas.search.config import SearchConfig
from hwnas.search.run import SearchResult

__all__ = ["Box", "Progress", "box_of", "box_text", "limits_of", "points_of", "progress"]

MARGIN = 0.1
"""How far beyond the worst of a front the reference point lies, in parts of the front's extent."""

SAMPLES = 2**15
"""Points that a hypervolume of three or more objectives is counted by."""

Points = NDArray[np.float64]
"""Shape (N, objectives): what is minimised, then the accuracy."""


@dataclass(frozen=True, slots=True)
class Box:
    """What a hypervolume is measured in: from the best of each objective to the reference point."""

    best: tuple[float, ...]
    """As the points have them: minimised ones, then the accuracy."""
    reference: tuple[float, ...]

    def units(self, points: Points) -> Points:
        """The points in parts of the box, all minimised: 0 is the best, 1 the reference."""
        best, reference = np.array(self.best), np.array(self.reference)
        units: Points = (points - best) / (reference - best)
        return units


@dataclass(frozen=True, slots=True)
class Progress:
    """The hypervolume after each evaluation that raised it, in parts of the box."""

    evaluations: tuple[int, ...]
    """After how many evaluations, ascending."""
    shares: tuple[float, ...]
    """What is covered from then on; 1 would be one network that is best in everything."""
    total: int
    """How many evaluations there were."""

    @property
    def final(self) -> float:
        """What is covered in the end; 0 when nothing is."""
        return self.shares[-1] if self.shares else 0.0

    def after(self, evaluations: int) -> float:
        """What was covered after so many evaluations."""
        index = bisect_right(self.evaluations, evaluations)
        return self.shares[index - 1] if index else 0.0

    def first_with(self, share: float) -> int | None:
        """After how many evaluations so much was covered; None when it never was.

        A share within a billionth counts as reached: sums of the same areas differ by rounding.
        """
        for evaluations, covered in zip(self.evaluations, self.shares, strict=True):
            if covered >= share * (1 - 1e-9):
                return evaluations
        return None


def box_of(runs: Sequence[Points], *, limits: Sequence[float | None]) -> Box | None:
    """The box that all these runs are measured in; None when they have no point.

    It reaches from the best of each objective on their joint front to the limit (one of each minimised
    objective; None: the worst of that front), and to the lowest accuracy of that front, and a tenth of
    the way further, so that the ends count, too.
    """
    points = np.concatenate([np.empty((0, len(limits) + 1)), *runs])
    if len(points) == 0:
        return None
    signs = np.append(np.ones(len(limits)), -1.0)
    minimised = points * signs
    joint = minimised[pareto.front(minimised)]
    best, worst = joint.min(axis=0), joint.max(axis=0)
    for place, limit in enumerate(limits):
        worst[place] = max(worst[place], -np.inf if limit is None else limit)
    narrow = worst == best  # one network beats all: what it beats says how wide the scale is
    worst[narrow] = minimised.max(axis=0)[narrow]
    margins = MARGIN * (worst - best)
    margins[margins == 0] = 1.0  # all points are equal here: any extent will do
    return Box(tuple((best * signs).tolist()), tuple(((worst + margins) * signs).tolist()))


def points_of(result: SearchResult) -> Points:
    """All evaluations, in order: what is minimised, in the report's units, and the accuracy's lower bound."""
    minimised = [one for one in dimensions(result.config) if one.minimised]
    points = [
        [*(trial.number(one.name) / one.per_unit for one in minimised), trial.accuracy.lower_bound()]
        for trial in result.trials
    ]
    return np.array(points, dtype=float).reshape(len(points), len(minimised) + 1)


def limits_of(config: SearchConfig) -> list[float | None]:
    """The limit of each minimised dimension, in the report's units."""
    return [one.limit for one in dimensions(config) if one.minimised]


def box_text(box: Box, config: SearchConfig) -> str:
    """From where to where a box reaches, in words."""
    units = [one.unit for one in dimensions(config) if one.minimised] + [config.accuracy_unit]
    best, reference = (
        "; ".join(f"{value:.4g} {unit}".strip() for value, unit in zip(corner, units, strict=True))
        for corner in (box.best, box.reference)
    )
    return f"the box from ({best}) to the reference point ({reference})"


def progress(points: Points, box: Box) -> Progress:
    """The growth of the hypervolume over points in the order of their evaluation.

    Of two objectives exactly. Of more it is the share of `SAMPLES` points spread evenly over the box
    that some network beats: within half a percent of the box.
    """
    units = box.units(points)
    growth = _areas(units) if units.shape[1] == 2 else _counted(units)
    evaluations, shares = list[int](), list[float]()
    for count, share in growth:
        evaluations.append(count)
        shares.append(share)
    return Progress(tuple(evaluations), tuple(shares), total=len(points))


def _areas(units: Points) -> Iterator[tuple[int, float]]:
    """After which point which area is covered. Each adds what no earlier one does; O(N log N) in all."""
    xs, ys = list[float](), list[float]()  # the front so far: x rises, y falls
    area = 0.0
    for count, (x, y) in enumerate(units.tolist(), start=1):
        before = bisect_right(xs, x) - 1
        if x >= 1 or y >= 1 or (before >= 0 and ys[before] <= y):
            continue
        first = last = bisect_left(xs, x)
        top, left = ys[first - 1] if first else 1.0, x
        while last < len(xs) and ys[last] >= y:  # those it dominates bound what is new from above
            area += (xs[last] - left) * (top - y)
            top, left = ys[last], xs[last]
            last += 1
        right = xs[last] if last < len(xs) else 1.0
        area += (right - left) * (top - y)
        xs[first:last], ys[first:last] = [x], [y]
        yield count, area


def _counted(units: Points) -> Iterator[tuple[int, float]]:
    """After which point which share of the spread points is covered."""
    left = _spread(SAMPLES, units.shape[1])
    front = np.empty((0, units.shape[1]))
    inside = (units < 1).all(axis=1)
    for index in np.flatnonzero(inside):
        point = units[index]
        if (front <= point).all(axis=1).any():
            continue
        front = np.vstack([front[~(point <= front).all(axis=1)], point])
        covered = (point <= left).all(axis=1)
        if covered.any():
            left = left[~covered]
            yield int(index) + 1, 1 - len(left) / SAMPLES


def _spread(count: int, objectives: int) -> Points:
    """Points spread evenly over the unit box, shape (count, objectives), always the same.

    The additive recurrence of M. Roberts, "The unreasonable effectiveness of quasirandom sequences"
    (2018): steps by powers of the root of x^(d+1) = x + 1, which generalises the golden ratio.
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (objectives + 1))
    steps = root ** -np.arange(1, objectives + 1)
    return (0.5 + np.outer(np.arange(1, count + 1), steps)) % 1.0
