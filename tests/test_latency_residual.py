"""What calibrated sums get wrong in common: learnt where it is there, left alone where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.predictors.latency.residual import Residual, fit_residual

Floats = NDArray[np.float64]


def networks(count: int, seed: int) -> Floats:
    """Features of networks whose sizes go together, as real ones' do."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0, 3, count)
    spread = rng.normal(0, 0.3, (count, 4))
    return np.asarray(np.exp(size[:, None] * [1.0, 1.2, 0.6, 0.4] + spread))


def wrong_by(features: Floats) -> Floats:
    """A smooth factor: what a board might do beside the sum."""
    return np.asarray(np.exp(0.04 * np.sin(np.log(features[:, 0])) - 0.01 * np.log(features[:, 1])))


def test_a_smooth_error_is_learnt_and_corrected_on_networks_not_seen() -> None:
    seen, fresh = networks(90, 1), networks(200, 2)
    noise = np.exp(np.random.default_rng(3).normal(0, 0.008, 90))
    fitted = fit_residual(seen, np.ones(90), wrong_by(seen) * noise)
    before = np.abs(np.log(wrong_by(fresh))).mean()
    after = np.abs(np.log(fitted.factors(fresh) / wrong_by(fresh))).mean()
    assert after < 0.35 * before


def test_noise_alone_is_left_alone() -> None:
    seen = networks(90, 1)
    for seed in range(5):
        noise = np.exp(np.random.default_rng(seed).normal(0, 0.01, 90))
        fitted = fit_residual(seen, np.ones(90), noise)
        assert np.abs(np.log(fitted.factors(networks(200, 2)))).mean() < 0.004


def test_far_from_every_network_seen_the_factor_is_one() -> None:
    seen = networks(90, 1)
    fitted = fit_residual(seen, np.ones(90), wrong_by(seen))
    assert fitted.factor([1e9, 1e9, 1e9, 1e9]) == pytest.approx(1.0, abs=1e-6)
    assert Residual().factor([1.0, 2.0, 3.0, 4.0]) == 1.0


def test_many_at_once_are_what_one_at_a_time_are() -> None:
    seen, fresh = networks(90, 1), networks(5000, 2)
    fitted = fit_residual(seen, np.ones(90), wrong_by(seen))
    assert fitted.factors(fresh) == pytest.approx([fitted.factor(row) for row in fresh], rel=1e-12)
