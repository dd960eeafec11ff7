"""Hypervolumes of hwnas against pymoo's and moocore's: two to four objectives, random fronts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.report.progress import Box, progress
from hwnas.search import pareto

Points = NDArray[np.float64]
Oracle = Callable[[Points, list[float]], float]


def by_pymoo(points: Points, reference: list[float]) -> float:
    """pymoo's hypervolume of minimised points; points beyond the reference count for nothing there, too."""
    indicators = pytest.importorskip("pymoo.indicators.hv", reason="pymoo is not installed (hwnas[dev])")
    return float(indicators.HV(ref_point=np.array(reference))(points))


def by_moocore(points: Points, reference: list[float]) -> float:
    """moocore's (Fonseca, Paquete and Lopez-Ibanez 2006)."""
    moocore = pytest.importorskip("moocore", reason="moocore is not installed (hwnas[dev])")
    return float(moocore.hypervolume(points, ref=reference))


ORACLES = [pytest.param(by_pymoo, id="pymoo"), pytest.param(by_moocore, id="moocore")]


def sphere(count: int, objectives: int, seed: int) -> Points:
    """A front: random points of the unit sphere's corner next to the origin, none beats another."""
    directions = np.abs(np.random.default_rng(seed).normal(size=(count, objectives)))
    points: Points = 1 - directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return points


def cloud(count: int, objectives: int, seed: int) -> Points:
    """Random points on a grid of tenths: many beaten, many ties, twins, and some beyond the reference 1."""
    return np.random.default_rng(seed).integers(0, 13, size=(count, objectives)) / 10


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("points_of", [sphere, cloud])
def test_the_hypervolume_of_random_fronts_is_that_of_other_packages(
    oracle: Oracle, objectives: int, points_of: Callable[[int, int, int], Points]
) -> None:
    for seed in range(4):
        points = points_of(40, objectives, seed)
        reference = [1.0] * objectives
        assert pareto.hypervolume(points, reference) == pytest.approx(oracle(points, reference), rel=1e-9)


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_front_of_latencies_and_accuracies_has_the_hypervolume_of_other_packages(oracle: Oracle) -> None:
    """The scales of real fronts: milliseconds to the left, minus percent below."""
    rng = np.random.default_rng(7)
    points = np.stack([rng.uniform(3, 20, 200), -rng.uniform(60, 80, 200)], axis=1)
    reference = [18.0, -62.5]
    assert pareto.hypervolume(points, reference) == pytest.approx(oracle(points, reference), rel=1e-12)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("objectives", [3, 4])
def test_what_is_counted_over_the_evaluations_is_within_half_a_percent_of_the_box(
    oracle: Oracle, objectives: int
) -> None:
    """More than two objectives are counted by points: at each step the oracle says how wrong that is."""
    points = cloud(60, objectives, 1) * 0.7 + sphere(60, objectives, 1) * 0.3
    points[:, -1] = 1 - points[:, -1]  # the accuracy is maximised
    box = Box(best=(0.0,) * (objectives - 1) + (1.0,), reference=(1.0,) * (objectives - 1) + (0.0,))
    known = progress(points, box)
    minimised = points * np.array([1.0] * (objectives - 1) + [-1.0])
    for count in (1, 5, 20, 60):
        exact = oracle(minimised[:count], [1.0] * (objectives - 1) + [0.0])
        assert known.after(count) == pytest.approx(exact, abs=0.005)
    assert known.final > 0.3  # there is something to be wrong about
