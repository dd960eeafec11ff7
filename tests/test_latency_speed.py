"""How much of a machine's wandering speed cells share: found again from passes that were slowed."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.predictors.latency.pace import Pace, Sharing, fit_pace, fit_sharing


def passes_of(
    sizes_ms: np.ndarray, share: object, *, passes: int = 4, noise: float = 0.01, seed: int = 0
) -> list[list[tuple[float, float]]]:
    """Cells of these sizes, timed while the machine's speed wanders by 5 %."""
    rng = np.random.default_rng(seed)
    cells = []
    for size in sizes_ms:
        slowed = rng.normal(0, 0.05, passes)
        own = size * np.exp(share(size) * slowed + rng.normal(0, noise, passes))  # type: ignore[operator]
        cells.append(list(zip(own.tolist(), (2 * np.exp(slowed)).tolist(), strict=True)))
    return cells


def test_the_share_is_found_again_for_small_and_for_large_cells() -> None:
    sizes = np.geomspace(1, 16, 80)
    found = fit_sharing(passes_of(sizes, lambda ms: 0.9 - 0.25 * np.log(ms)))
    for size in (1.5, 4.0, 12.0):
        assert found.share(size) == pytest.approx(0.9 - 0.25 * np.log(size), abs=0.08)


def test_passes_at_the_middle_speed_differ_by_noise_only() -> None:
    sizes = np.geomspace(1, 16, 80)
    cells = passes_of(sizes, lambda ms: 0.8, noise=0.005)
    found = fit_sharing(cells)
    raw, steadied = [], []
    for cell in cells:
        raw.append(np.std(np.log([own for own, _ in cell])))
        steadied.append(np.std(np.log(found.at_middle_speed(cell, fit_pace(cells)))))
    assert np.mean(steadied) < 0.2 * np.mean(raw)


def test_three_networks_hardly_move_the_prior_and_none_leaves_it() -> None:
    assert fit_sharing([]) == Sharing()
    assert fit_sharing([[(3.0, 2.0)], [(5.0, 2.1)]]) == Sharing()
    few = fit_sharing(passes_of(np.array([2.0, 3.0, 4.0]), lambda ms: 0.0, passes=3, noise=0.05))
    assert 0.0 <= few.share(3.0) <= 1.2


def test_one_pass_disturbed_in_another_way_does_not_decide() -> None:
    cells = passes_of(np.geomspace(1, 16, 40), lambda ms: 1.0)
    cells[3][0] = (cells[3][0][0] * 3, cells[3][0][1])
    assert fit_sharing(cells).share(4.0) == pytest.approx(1.0, abs=0.1)


def test_what_a_cells_size_does_to_the_reference_network_is_no_speed_of_the_machine() -> None:
    # The larger the cell, the slower the reference network beside it, on a machine that does not wander.
    sizes = np.geomspace(1, 16, 40)
    cells = [[(size, 2.0 * size**0.05)] * 3 for size in sizes.tolist()]
    pace = fit_pace(cells)
    assert pace is not None
    assert pace.reference_ms(4.0) == pytest.approx(2.0 * 4.0**0.05, rel=1e-3)
    for cell in cells:
        assert Sharing().at_middle_speed(cell, pace) == pytest.approx([cell[0][0]] * 3, rel=1e-3)


def test_few_cells_have_no_pace_and_keep_their_own_middle() -> None:
    cells = [[(1.0, 2.0), (1.1, 2.2), (1.2, 2.4)], [(8.0, 4.0)] * 3]
    assert fit_pace(cells) is None
    assert Sharing((1.0, 0.0, 0.0)).at_middle_speed(cells[0], None) == pytest.approx([1.1] * 3)
    assert Sharing().at_middle_speed(cells[1], None) == pytest.approx([8.0] * 3)


def test_another_speed_is_told_by_its_pace() -> None:
    slower = Pace((float(np.log(2.2)), 0.0, 0.0))
    assert Sharing((1.0, 0.0, 0.0)).at_middle_speed([(3.0, 2.0)], slower) == pytest.approx([3.3])
