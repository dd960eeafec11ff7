"""The report on a predictor, against scipy, brute force and cases worked out by hand."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas import metrics as evaluation
from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.metrics import best_possible_tau, evaluate, kendall_tau, noise_std

values = st.lists(st.integers(0, 6), min_size=2, max_size=30)


@given(st.data())
def test_kendall_and_spearman_agree_with_scipy_ties_included(data: st.DataObject) -> None:
    from scipy import stats

    a = data.draw(values)
    b = data.draw(st.lists(st.integers(0, 6), min_size=len(a), max_size=len(a)))
    ours = evaluation.kendall_tau(a, b), evaluation.spearman(a, b)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert ours == (None, None)
        return
    assert ours[0] == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    assert ours[1] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_the_same_order_is_1_and_the_reverse_is_minus_1() -> None:
    assert evaluation.kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert evaluation.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)


def test_mape_and_shares_follow_from_the_relative_errors_by_hand() -> None:
    actual, predicted = [100, 100, 200, 50], [105, 90, 200, 60]  # 5, 10, 0 and 20 % off
    assert evaluation.mape_percent(actual, predicted) == pytest.approx(8.75)
    assert evaluation.within_percent(actual, predicted, 5) == 50
    assert evaluation.within_percent(actual, predicted, 10) == 75


@given(st.data(), st.booleans())
def test_top_k_regret_is_what_brute_force_finds(data: st.DataObject, higher: bool) -> None:
    actual = data.draw(values)
    predicted = data.draw(st.permutations(range(len(actual))))
    k = data.draw(st.integers(1, len(actual)))
    chosen = [
        true
        for _, true in sorted(zip(predicted, actual, strict=True), key=lambda pair: pair[0], reverse=higher)
    ][:k]
    expected = max(actual) - max(chosen) if higher else min(chosen) - min(actual)
    assert evaluation.top_k_regret(actual, predicted, k, higher_is_better=higher) == expected


def test_choosing_all_networks_leaves_nothing_to_regret() -> None:
    assert evaluation.top_k_regret([3, 1, 2], [1, 2, 3], 3) == 0


def test_coverage_counts_the_ends_of_an_interval() -> None:
    assert evaluation.coverage_percent([1, 2, 3, 4], [1, 0, 4, 0], [9, 2, 9, 3]) == 50


def test_a_predictor_that_knows_its_noise_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 100, 4000)
    spread = rng.uniform(0.5, 5, 4000)
    estimates = [Estimate(true + s * rng.normal(), s) for true, s in zip(truth, spread, strict=True)]
    for promise in evaluate(truth, estimates).overall.calibration:
        assert promise.observed == pytest.approx(promise.level, abs=0.02)


def test_a_predictor_too_sure_of_itself_is_found_out() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 100, 2000)
    estimates = [Estimate(true + 3 * rng.normal(), 1.0, true - 1, true + 1) for true in truth]
    overall = evaluate(truth, estimates).overall
    assert overall.calibration[2].level == 0.9 and overall.calibration[2].observed < 0.5
    assert overall.interval_coverage_percent == 100


def test_calibration_levels_are_the_normal_distributions() -> None:
    from scipy import stats

    for level, reach in evaluation.CALIBRATION_LEVELS:
        assert reach == pytest.approx(stats.norm.ppf((1 + level) / 2), abs=1e-6)


def test_bins_hold_every_network_once_and_are_scored_as_if_alone() -> None:
    rng = random.Random(1)
    truth = [rng.uniform(1, 50) for _ in range(101)]
    predicted = [true * rng.uniform(0.8, 1.2) for true in truth]
    report = evaluate(truth, predicted, bins=[10, 20, 40], k=3)
    assert [scores.label for scores in report.bins] == ["below 10", "10 to 20", "20 to 40", "40 and up"]
    assert sum(scores.count for scores in report.bins) == report.overall.count == 101
    inside = [(t, p) for t, p in zip(truth, predicted, strict=True) if 10 <= t < 20]
    alone = evaluate([t for t, _ in inside], [p for _, p in inside], bins=1, k=3).overall
    assert report.bins[1].mape_percent == alone.mape_percent
    assert report.bins[1].kendall_tau == alone.kendall_tau
    assert report.bins[1].top_k_regret == alone.top_k_regret


def test_bins_by_number_hold_equally_many_and_by_label_whatever_has_it() -> None:
    truth = list(range(1, 41))
    assert [scores.count for scores in evaluate(truth, truth, bins=4).bins] == [10, 10, 10, 10]
    labelled = evaluate(truth, truth, bins=["odd" if t % 2 else "even" for t in truth])
    assert [(scores.label, scores.count) for scores in labelled.bins] == [("odd", 20), ("even", 20)]


def test_what_cannot_be_told_is_none_and_not_a_number_made_up() -> None:
    overall = evaluate([0.0, 1.0], [0.5, 0.5], bins=1).overall
    assert overall.mape_percent is None and overall.kendall_tau is None and overall.top_k_regret is None
    assert overall.interval_coverage_percent is None and overall.calibration == ()
    assert overall.mean_absolute_error == 0.5


def test_a_report_is_plain_data_for_json() -> None:
    report = evaluate([1.0, 2.0, 3.0], [Estimate(1.1, 0.1, 0.9, 1.3, "ms")] * 3, k=1)
    document = json.loads(json.dumps(report.to_dict()))
    assert document["unit"] == "ms" and document["overall"]["count"] == 3


@pytest.mark.parametrize(
    ("actual", "estimates", "options", "rule"),
    [
        ([1, 2], [1.0], {}, "one estimate for each true value"),
        ([], [], {}, "one estimate for each true value"),
        ([1, math.nan], [1.0, 2.0], {}, "must be finite"),
        ([1, 2], [1.0, 2.0], {"bins": [3, 2]}, "must rise"),
        ([1, 2], [1.0, 2.0], {"bins": ["a"]}, "a label for each value"),
        ([1, 2], [1.0, 2.0], {"k": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_rule(actual, estimates, options, rule) -> None:
    with pytest.raises(UsageError, match=rule):
        evaluate(actual, estimates, **options)


def test_the_noise_is_pooled_over_the_networks_that_were_measured_again() -> None:
    # Deviations -1, 1 and -2, 0, 2: (1 + 1 + 4 + 0 + 4) over 1 + 2 degrees of freedom.
    assert noise_std([[9, 11], [3, 5, 7], [8]]) == pytest.approx((10 / 3) ** 0.5)
    assert noise_std([[9], [3]]) is None


def test_the_best_possible_tau_is_what_knowing_the_truth_gives_on_noisy_measurements() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.normal(60, 4, size=60), 2.0
    simulated = []
    promised = []
    for _ in range(40):
        measured = truth + rng.normal(0, noise, size=60)
        simulated.append(kendall_tau(measured, truth))
        promised.append(best_possible_tau(measured, noise))
    assert np.mean(promised) == pytest.approx(np.mean(simulated), abs=0.02)
    assert 0.6 < np.mean(simulated) < 0.8, "the noise must matter for this to test anything"


def test_without_noise_the_best_possible_tau_is_one_and_with_nothing_else_there_is_none() -> None:
    assert best_possible_tau([1, 2, 3], 0) == 1
    assert best_possible_tau([1, 2, 3], 5) is None
    assert best_possible_tau([1], 0) is None
