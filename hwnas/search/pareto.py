"""Non-dominated points, their ranks and the hypervolume they cover. Everything is minimised.

A point dominates another when it is nowhere larger and somewhere smaller. Equal points do not
dominate each other: both are on the front. Two objectives are handled here, three and more by moocore.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hwnas.types import Bools, Floats, Ints

__all__ = ["crowding", "front", "hypervolume", "ranks", "survivors"]


def front(points: ArrayLike) -> list[int]:
    """Indices, ascending, of the points that no other dominates.

    `points` is (N, objectives). Two and three objectives take O(N log N).
    """
    array = _checked(points)
    return np.flatnonzero(_on_front(array)).tolist() if len(array) else []


def ranks(points: ArrayLike, *, at_least: int | None = None) -> list[list[int]]:
    """The points in ranks: the front, the front without those, and so on; indices ascending.

    With `at_least`, no more ranks than it takes to hold so many points. The non-dominated sort of
    NSGA-II (Deb et al. 2002, section III-A), by peeling fronts off.
    """
    return [rank.tolist() for rank in _ranks(_checked(points), at_least)]


def survivors(points: ArrayLike, number: int) -> Ints:
    """Rows of the best `number` points: rank by rank, and of the last rank the least crowded.

    As NSGA-II chooses survivors (Deb et al. 2002, section III-B and C).
    """
    array = _checked(points)
    chosen: list[Ints] = []
    left = number
    for rank in _ranks(array, number):
        if len(rank) > left:
            rank = rank[np.argsort(-crowding(array[rank]), kind="stable")[:left]]
        chosen.append(rank)
        left -= len(rank)
    return np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)


def crowding(points: Floats) -> Floats:
    """How far apart each point's neighbours are, summed over the objectives; infinite at the ends."""
    room = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        in_order = column[order]
        width = in_order[-1] - in_order[0]
        apart = np.full(len(points), np.inf)
        apart[1:-1] = (in_order[2:] - in_order[:-2]) / width if width > 0 else 0.0
        room[order] += apart
    return room


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume of what the points dominate, up to `reference`; points beyond it count for nothing. Exact."""
    array = _checked(points)
    corner = np.asarray(reference, dtype=float)
    if array.size and array.shape[1] != len(corner):
        raise ValueError(
            f"the reference needs a number per objective, got {len(corner)} for {array.shape[1]} objectives"
        )
    inside = array[(array < corner).all(axis=1)] if array.size else array
    if not len(inside):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - inside.min())
    if len(corner) > 2:
        import moocore

        return float(moocore.hypervolume(inside, ref=corner))
    inside = inside[_on_front(inside)]
    inside = inside[np.lexsort(inside.T[::-1])]
    right = np.append(inside[1:, 0], corner[0])
    return float(((right - inside[:, 0]) * (corner[1] - inside[:, 1])).sum())


def _checked(points: ArrayLike) -> Floats:
    array = np.asarray(points, dtype=float)
    if array.size and array.ndim != 2:
        raise ValueError(f"points must be (N, objectives), got shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError("points must be numbers, got NaN")
    return array


def _ranks(array: Floats, at_least: int | None) -> list[Ints]:
    left = np.arange(len(array))
    found: list[Ints] = []
    while len(left) and (at_least is None or len(array) - len(left) < at_least):
        inner = _on_front(array[left])
        found.append(left[inner])
        left = left[~inner]
    return found


def _on_front(array: Floats) -> Bools:
    """Which of at least one point no other dominates."""
    if array.shape[1] > 2:
        import moocore

        return np.asarray(moocore.is_nondominated(array, keep_weakly=True), dtype=bool)
    order = np.lexsort(array.T[::-1])  # by the first objective, ties by the second
    kept = np.empty(len(array), dtype=bool)
    kept[order] = _front_of_sorted(array[order])
    return kept


def _front_of_sorted(array: Floats) -> Bools:
    """Sorted by both objectives: a point stays when its last is below all before it; so do its twins."""
    last = array[:, -1]
    before = np.concatenate(([np.inf], np.minimum.accumulate(last)[:-1]))
    kept: Bools = last < before
    for index in np.flatnonzero((array[1:] == array[:-1]).all(axis=1)) + 1:
        kept[index] = kept[index - 1]
    return kept
