"""The surrogate: what it says of a function it knows, how it weighs noise, what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from search_fakes import by_size, small_space, table
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from hwnas.search.pareto import hypervolume
from hwnas.search.surrogate.acquisition import Gain, halton
from hwnas.search.surrogate.features import GROUPS, Features
from hwnas.search.surrogate.gp import Settings, Surrogate, fitted_settings
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves

ONE_GROUP = [slice(0, 3)]


def points(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(number, 3))


def curved(features: np.ndarray) -> np.ndarray:
    return np.sin(features[:, 0]) + 0.5 * features[:, 1] * features[:, 2]


def test_it_believes_what_scikit_learns_process_with_the_same_covariance_does() -> None:
    settings = Settings(lengths=(1.7,), slopes=(0.4,), height=0.9, noise=0.1, share=0.0)
    seen, asked = points(30), points(20, seed=1)
    reference = GaussianProcessRegressor(
        ConstantKernel(0.9**2) * Matern(1.7, nu=2.5) + ConstantKernel(0.4**2) * DotProduct(sigma_0=1e-9),
        alpha=0.1**2,
        optimizer=None,
    ).fit(seen, curved(seen))
    means, deviations = reference.predict(asked, return_std=True)
    ours = Surrogate(settings, seen, curved(seen), np.zeros(30), ONE_GROUP)
    assert ours.believed(asked)[0] == pytest.approx(means, abs=1e-5)
    assert ours.believed(asked)[1] == pytest.approx(deviations, abs=1e-5)
    assert ours.mean(asked) == pytest.approx(means, abs=1e-5)
    assert np.sqrt(np.diag(ours.covariance(asked))) == pytest.approx(deviations, abs=1e-5)


def test_noise_is_told_from_a_function_that_repeats_exactly() -> None:
    seen = points(120)
    rough = curved(seen) + np.random.default_rng(2).normal(scale=0.5, size=120)
    exact, told = (
        fitted_settings(seen, scores / scores.std(), np.zeros(120), ONE_GROUP)
        for scores in (curved(seen), rough)
    )
    assert exact.noise < 0.05
    assert told.noise == pytest.approx(0.5 / rough.std(), rel=0.35)


def test_an_estimators_own_error_counts_as_noise_only_where_answers_scatter_so() -> None:
    seen = points(150)
    errors = np.where(np.arange(150) % 2, 1.0, 0.02)
    scatter = np.random.default_rng(3).normal(size=150) * errors
    exact = fitted_settings(seen, curved(seen), errors, ONE_GROUP)
    scattered = fitted_settings(seen, curved(seen) + scatter, errors, ONE_GROUP)
    assert exact.share < 0.01
    assert scattered.share > 0.2


def test_it_finds_better_networks_than_a_random_choice() -> None:
    space = SearchSpace.default()
    moves = Moves(space)
    features, drawn = Features(space, moves), moves.random(400, np.random.default_rng(4))
    truth = np.array([by_size(space.decode(row)) for row in drawn.tolist()])
    seen, scores = drawn[:60], (truth[:60] - truth[:60].mean()) / truth[:60].std()
    settings = fitted_settings(features.of(seen), scores, np.zeros(60), features.groups)
    means = Surrogate(settings, features.of(seen), scores, np.zeros(60), features.groups).mean(
        features.of(drawn[60:])
    )
    picked = truth[60:][np.argsort(-means)[:20]]
    assert picked.mean() > np.quantile(truth[60:], 0.9)


def test_sizes_are_among_the_features_and_random_networks_are_one_apart() -> None:
    space = small_space()
    moves = Moves(space)
    features, drawn = Features(space, moves), moves.random(600, np.random.default_rng(5))
    numbers = features.of(drawn)
    assert len(features.groups) == len(GROUPS)
    for group in features.groups:
        apart = np.square(numbers[::2, group] - numbers[1::2, group]).sum(axis=1)
        assert apart.mean() == pytest.approx(1.0, rel=0.25)
    ops = [lower(space.decode(row)) for row in drawn.tolist()]
    for column, count in enumerate((count_macs, count_params)):
        logs = [math.log(count(each)) for each in ops]
        assert np.corrcoef(numbers[:, column], logs)[0, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("objectives", [1, 2])
def test_a_sure_networks_gain_is_what_it_adds_to_the_hypervolume(objectives: int) -> None:
    rng = np.random.default_rng(6)
    known, scores = rng.random((12, objectives)), rng.random(12)
    gain = Gain(known, scores, ideal=np.zeros(objectives), reference=np.ones(objectives))
    more, sure = rng.random((8, objectives)) * 0.7, np.full(8, 1e-9)
    above = 1.0 + rng.random(8)  # better than all, so that the floor of the score does not matter
    covering = known.min(axis=0)
    gains = gain.expected(np.maximum(more, covering), above, sure)
    front = np.column_stack([known, -scores])
    corner = (*[1.0] * objectives, 0.0)
    for place, score, expected in zip(np.maximum(more, covering), above, gains, strict=True):
        alone = hypervolume(np.vstack([front, [*place, -score]]), corner) - hypervolume(front, corner)
        assert expected == pytest.approx(alone, rel=0.15)


def test_what_was_chosen_promises_nothing_a_second_time() -> None:
    gain = Gain(np.array([[0.5]]), np.array([0.2]), ideal=np.zeros(1), reference=np.ones(1))
    place, score, sure = np.array([[0.3]]), np.array([0.9]), np.array([1e-9])
    assert gain.expected(place, score, sure)[0] > 0.1
    gain.add(place[0], 0.9)
    assert gain.expected(place, score, sure)[0] == pytest.approx(0.0, abs=1e-8)


def test_even_points_leave_no_half_of_the_range_empty() -> None:
    assert halton(4, 1)[:, 0] == pytest.approx([0.5, 0.25, 0.75, 0.125])
    counts, _ = np.histogram(halton(64, 2)[:, 1], bins=8, range=(0, 1))
    assert counts.min() >= 6


def test_noise_of_half_a_point_costs_little() -> None:
    from hwnas.predictors.accuracy import load_accuracy
    from hwnas.search.engines import optuna as engine
    from hwnas.search.problem import Problem

    def noisy(arch: object) -> float:
        noise = np.random.default_rng(int(arch.id, 16) % 2**32).normal()  # type: ignore[attr-defined]
        return by_size(arch) + 0.5 * float(noise)  # type: ignore[arg-type]

    def volume(sampler: str) -> float:
        some = Problem.on_device(small_space(), table(), load_accuracy(noisy), budget_ms=0.9)
        trials: list[object] = []
        engine.run(
            some, sampler=sampler, seed=0, wanted=80, done=(), on_trials=trials.extend, stop=lambda: False
        )
        true = [(t.latency.value, -by_size(small_space().decode(t.vector))) for t in trials]  # type: ignore[attr-defined]
        return hypervolume(true, (0.9, 0.0))

    assert volume("auto") > volume("random")
