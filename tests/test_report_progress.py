"""Hypervolume over evaluations, and what the front prefers, against oracles and hand counts."""

from __future__ import annotations

import random

import numpy as np
import pytest
from search_fakes import by_size, small_space, table

from hwnas.report.choices import preferences, strongest
from hwnas.report.progress import Box, box_of, progress
from hwnas.search import SearchResult, pareto, search

BOX = Box(best=(0, 10), reference=(10, 0))


def test_the_hypervolume_of_three_networks_is_what_squares_on_paper_say() -> None:
    # (4 ms, 5): 6 x 5 = 30. (2 ms, 3): 2 x 3 more. (3 ms, 8), which beats the first: 1 x 5 + 6 x 3 more.
    known = progress(np.array([[4, 5], [2, 3], [5, 4], [3, 8]], dtype=float), BOX)
    assert known.evaluations == (1, 2, 4)
    assert known.shares == pytest.approx((0.30, 0.36, 0.59))
    assert (known.after(0), known.after(3), known.final) == pytest.approx((0, 0.36, 0.59))
    assert (known.first_with(0.36), known.first_with(0.6)) == (2, None)


@pytest.mark.parametrize("seed", range(5))
def test_after_every_evaluation_it_is_the_hypervolume_of_all_so_far(seed: int) -> None:
    """Ties are common here: ten values an axis. moocore (from Lopez-Ibanez) is the oracle, and our own."""
    moocore = pytest.importorskip("moocore")
    rng = random.Random(seed)
    points = np.array([[rng.randint(0, 11), rng.randint(-1, 10)] for _ in range(80)], dtype=float)
    known = progress(points, BOX)
    for count in range(1, len(points) + 1):
        minimised = points[:count] * (1, -1)
        assert 100 * known.after(count) == pytest.approx(pareto.hypervolume(minimised, (10, 0)))
        assert 100 * known.after(count) == pytest.approx(moocore.hypervolume(minimised, ref=[10, 0]))


def test_the_box_reaches_from_the_best_a_tenth_beyond_the_budget_and_the_lowest_of_the_front() -> None:
    first = np.array([[2.0, 60.0], [5.0, 40.0]])  # the second is beaten: it does not stretch the box
    second = np.array([[8.0, 80.0]])
    assert box_of([first, second], limits=[12]) == Box((2, 80), (13, 58))
    assert box_of([np.empty((0, 2))], limits=[12]) is None


def test_an_objective_without_a_limit_reaches_a_tenth_beyond_the_worst_of_the_front() -> None:
    points = np.array([[2.0, 1.0, 60.0], [4.0, 6.0, 80.0], [5.0, 20.0, 70.0]])  # the last one is beaten
    assert box_of([points], limits=[12, None]) == Box((2, 1, 80), (13, 6.5, 58))


def test_a_box_of_one_network_still_has_an_extent() -> None:
    for limits in ([12.0], [None]):
        points = np.array([[12.0, 60.0]])
        box = box_of([points], limits=limits)
        assert box is not None and all(np.array(box.best) != np.array(box.reference))
        assert progress(points, box).final == pytest.approx(1)


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60, sampler="random")


def test_shares_are_those_that_the_networks_themselves_tell(result: SearchResult) -> None:
    archs = [result.space.decode(trial.vector) for trial in result.trials]
    front = [candidate.arch for candidate in result.front]
    for preference in preferences(result):
        assert sum(share.evaluated for share in preference.shares) == pytest.approx(1)
        for share in preference.shares:
            for of, said in ((front, share.front), (archs, share.evaluated)):
                if preference.what == "attention":
                    taken = [
                        "none" if block is None else block.type
                        for arch in of
                        for block in arch.stages[(preference.stage or 0) - 1].blocks
                    ]
                elif preference.what == "width":
                    taken = [str(arch.stages[(preference.stage or 0) - 1].width) for arch in of]
                elif preference.what == "stem stride":
                    taken = [str(arch.stem.stride) for arch in of]
                else:
                    continue
                assert said == pytest.approx(taken.count(share.choice) / len(taken))


def test_what_no_network_had_to_decide_is_not_among_the_preferences(result: SearchResult) -> None:
    named = {(preference.what, preference.stage) for preference in preferences(result)}
    assert ("resolution", None) not in named  # 64 is the only one
    assert ("kernels", 1) not in named  # one attention has kernels, 3-5
    assert {("attention", 1), ("width", 2), ("layout", 2), ("stem stride", None)} <= named


def test_the_strongest_preference_comes_first(result: SearchResult) -> None:
    gains = [share.front - share.evaluated for _, share in strongest(preferences(result))]
    assert gains == sorted(gains, reverse=True) and gains[0] > 0
