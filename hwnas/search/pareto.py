"""Non-dominated points, their ranks and the hypervolume they cover. Everything is minimised.

A point dominates another when it is nowhere larger and somewhere smaller. Equal points do not
dominate each other: both are on the front.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["dominates", "front", "hypervolume", "ranks"]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere larger than `b` and somewhere smaller."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: ArrayLike) -> list[int]:
    """Indices, ascending, of the points that no other dominates.

    `points` is (N, objectives). Two objectives take O(N log N); more take O(N * front).
    """
    array = _checked(points)
    if len(array) == 0:
        return []
    order = np.lexsort(array.T[::-1])  # by the first objective, ties by the next ones
    array = array[order]
    kept = _front_of_sorted_pairs(array) if array.shape[1] == 2 else _front_of_sorted(array)
    return sorted(int(index) for index in order[kept])


def ranks(points: ArrayLike, *, at_least: int | None = None) -> list[list[int]]:
    """The points in ranks: the front, the front without those, and so on; indices ascending.

    With `at_least`, no more ranks than it takes to hold so many points. The non-dominated sort of
    NSGA-II (Deb et al. 2002, section III-A), by peeling fronts off.
    """
    array = _checked(points)
    left = np.arange(len(array))
    sorted_out: list[list[int]] = []
    while len(left) and (at_least is None or len(array) - len(left) < at_least):
        inner = front(array[left])
        sorted_out.append([int(index) for index in left[inner]])
        left = np.delete(left, inner)
    return sorted_out


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume of what the points dominate, up to `reference`; points beyond it count for nothing.

    Two objectives by a sweep; more by slicing along the last one, which suits a few objectives and
    some hundreds of points.
    """
    array = _checked(points)
    corner = np.asarray(reference, dtype=float)
    if array.size and array.shape[1] != len(corner):
        raise ValueError(
            f"the reference needs a number per objective, got {len(corner)} for {array.shape[1]} objectives"
        )
    inside = array[(array < corner).all(axis=1)] if array.size else array
    return _volume(inside[front(inside)], corner) if len(inside) else 0.0


def _checked(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=float)
    if array.size and array.ndim != 2:
        raise ValueError(f"points must be (N, objectives), got shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError("points must be numbers, got NaN")
    return array


def _front_of_sorted_pairs(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Sorted by both objectives: a point stays when its second is below all before it."""
    second = array[:, 1]
    before = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
    kept = second < before
    twins = np.concatenate(([False], (array[1:] == array[:-1]).all(axis=1)))
    for index in np.flatnonzero(twins):
        kept[index] = kept[index - 1]
    return kept


def _front_of_sorted(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Sorted lexicographically: only an earlier point can dominate a later one."""
    kept = np.ones(len(array), dtype=bool)
    for index in range(len(array)):
        if kept[index]:
            worse = (array[index] <= array).all(axis=1) & (array[index] < array).any(axis=1)
            kept &= ~worse
    return kept


def _volume(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """Hypervolume of non-dominated points that all lie inside the corner."""
    if points.shape[1] == 1:
        return float(corner[0] - points.min())
    if points.shape[1] == 2:
        points = points[np.lexsort(points.T[::-1])]
        right = np.append(points[1:, 0], corner[0])
        return float(((right - points[:, 0]) * (corner[1] - points[:, 1])).sum())
    levels = np.unique(points[:, -1])
    heights = np.diff(np.append(levels, corner[-1]))
    total = 0.0
    for level, height in zip(levels, heights, strict=True):
        slab = points[points[:, -1] <= level, :-1]
        total += float(height) * _volume(slab[front(slab)], corner[:-1])
    return total
