"""How the hypervolume grew over the evaluations of a run, against a reference point that is said.

Points are (latency in ms, accuracy). The accuracy is the lower bound that a search maximises: the
estimate less one standard deviation, the estimate itself where the estimator gives none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.search import pareto

__all__ = ["Box", "Progress", "box_of", "progress"]

MARGIN = 0.1
"""How far beyond the worst of a front the reference point lies, in parts of the front's extent."""

Points = NDArray[np.float64]
"""Shape (N, 2): latency in ms, accuracy."""


@dataclass(frozen=True, slots=True)
class Box:
    """What a hypervolume is measured in: from the best of each objective to the reference point."""

    fastest_ms: float
    best_accuracy: float
    reference_ms: float
    reference_accuracy: float

    @property
    def area(self) -> float:
        """In ms times the accuracy's unit."""
        return (self.reference_ms - self.fastest_ms) * (self.best_accuracy - self.reference_accuracy)


@dataclass(frozen=True, slots=True)
class Progress:
    """The hypervolume after each evaluation that raised it, in parts of the box's area."""

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


def box_of(runs: Sequence[Points], *, budget_ms: float) -> Box | None:
    """The box that all these runs are measured in; None when they have no point.

    It reaches from the fastest and the most accurate of their joint front to the budget and to the
    lowest accuracy of that front, and a tenth of the way further, so that the ends count, too.
    """
    points = np.concatenate([np.empty((0, 2)), *runs])
    if len(points) == 0:
        return None
    best = points[pareto.front(points * (1, -1))]
    fastest, most = float(best[:, 0].min()), float(best[:, 1].max())
    slowest, least = max(budget_ms, float(best[:, 0].max())), float(best[:, 1].min())
    if least == most:  # one network beats all: what it beats says how wide the scale is
        least = float(points[:, 1].min())
    return Box(
        fastest_ms=fastest,
        best_accuracy=most,
        reference_ms=slowest + (MARGIN * (slowest - fastest) or MARGIN * slowest),
        reference_accuracy=least - (MARGIN * (most - least) or 1.0),
    )


def progress(points: Points, box: Box) -> Progress:
    """The growth of the hypervolume over points in the order of their evaluation.

    Each point adds what it covers and no earlier one does; O(N log N) in all.
    """
    xs, ys = list[float](), list[float]()  # the front so far: x rises, y (minus accuracy) falls
    corner_x, corner_y = box.reference_ms, -box.reference_accuracy
    volume = 0.0
    evaluations, shares = list[int](), list[float]()
    for count, (x, y) in enumerate(_minimised(points), start=1):
        before = bisect_right(xs, x) - 1
        if x >= corner_x or y >= corner_y or (before >= 0 and ys[before] <= y):
            continue
        first = last = bisect_left(xs, x)
        top, left = ys[first - 1] if first else corner_y, x
        while last < len(xs) and ys[last] >= y:  # those it dominates bound what is new from above
            volume += (xs[last] - left) * (top - y)
            top, left = ys[last], xs[last]
            last += 1
        right = xs[last] if last < len(xs) else corner_x
        volume += (right - left) * (top - y)
        xs[first:last], ys[first:last] = [x], [y]
        evaluations.append(count)
        shares.append(volume / box.area)
    return Progress(tuple(evaluations), tuple(shares), total=len(points))


def _minimised(points: Points) -> Iterable[tuple[float, float]]:
    return ((x, -accuracy) for x, accuracy in points.tolist())
