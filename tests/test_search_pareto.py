"""Fronts, ranks and hypervolume, against brute force and other people's implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_fakes import dominates

from hwnas.search.pareto import front, hypervolume, ranks

small = st.integers(0, 6).map(float)
clouds = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.tuples(*[small] * width), min_size=1, max_size=25)
)


def brute_force_front(points: list[tuple[float, ...]]) -> list[int]:
    return [
        index for index, point in enumerate(points) if not any(dominates(other, point) for other in points)
    ]


@given(clouds)
def test_the_front_is_what_brute_force_finds_ties_and_twins_included(
    points: list[tuple[float, ...]],
) -> None:
    assert front(points) == brute_force_front(points)


@given(clouds)
def test_ranks_partition_the_points_and_each_is_the_front_of_what_is_left(
    points: list[tuple[float, ...]],
) -> None:
    left = list(range(len(points)))
    for rank in ranks(points):
        assert rank == [left[index] for index in brute_force_front([points[i] for i in left])]
        left = [index for index in left if index not in rank]
    assert left == []
    some = ranks(points, at_least=5)
    assert some == ranks(points)[: len(some)]
    assert sum(map(len, some)) >= min(5, len(points)) and sum(map(len, some[:-1])) < 5


@given(clouds)
@settings(max_examples=60)
def test_hypervolume_is_the_number_of_unit_cells_dominated(points: list[tuple[float, ...]]) -> None:
    width = len(points[0])
    counted = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in itertools.product(range(6), repeat=width)
    )
    assert hypervolume(points, [6.0] * width) == counted


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_and_ranks_agree_with_pymoo(objectives: int) -> None:
    indicator = pytest.importorskip("pymoo.indicators.hv").HV(np.ones(objectives))
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting").NonDominatedSorting()
    points = np.random.default_rng(0).random((80, objectives)) * 1.1
    assert hypervolume(points, [1.0] * objectives) == pytest.approx(indicator(points), rel=1e-12)
    assert ranks(points) == [sorted(rank.tolist()) for rank in sorting.do(points)]


def test_hypervolume_agrees_with_moocore_in_four_objectives() -> None:
    moocore = pytest.importorskip("moocore")
    points = np.random.default_rng(1).random((40, 4))
    expected = moocore.hypervolume(points, ref=np.ones(4))
    assert hypervolume(points, np.ones(4)) == pytest.approx(expected, rel=1e-12)


def test_points_at_or_beyond_the_reference_count_for_nothing() -> None:
    assert hypervolume([(1.0, 5.0), (3.0, 0.0), (0.5, 0.5)], [1.0, 1.0]) == 0.25
    assert hypervolume(np.empty((0, 2)), [1.0, 1.0]) == 0.0


def test_nan_and_a_reference_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="must be numbers, got NaN"):
        front([(1.0, float("nan"))])
    with pytest.raises(ValueError, match="a number per objective, got 3 for 2"):
        hypervolume([(1.0, 1.0)], [2.0, 2.0, 2.0])
