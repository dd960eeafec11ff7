"""What a new device is taken to be close to, and the errors that rows left out are told with."""

import numpy as np
import pandas as pd
import pytest
from test_transfer import best_single, mape, world

from hwnas.predictors.latency.transfer.bases import candidate_bases
from hwnas.predictors.latency.transfer.model import (
    Answers,
    blend_shares,
    blended,
    choose_samples,
    fit_transfer,
)
from hwnas.predictors.latency.transfer.process import Smooth, Term, fit_process
from hwnas.predictors.latency.transfer.rows import describe_rows


@pytest.mark.parametrize("devices", [0, 1, 5])
def test_a_base_left_out_is_one_found_without_that_row(devices: int) -> None:
    features, sources, truth = world(rows=60, devices=max(devices, 1))
    rows = describe_rows(features, sources.iloc[:, :devices])
    at, logs = np.arange(0, 60, 7), np.log(truth.to_numpy()[::7])
    for base in candidate_bases(rows, at, logs):
        assert np.median(logs - base.logs[at]) == pytest.approx(0, abs=1e-9)
        for left in (0, 4):
            without = {b.name: b for b in candidate_bases(rows, np.delete(at, left), np.delete(logs, left))}
            np.testing.assert_allclose(base.left_out[:, left], without[base.name].logs[at], atol=1e-6)


def test_a_process_left_out_is_one_fitted_without_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 2))
    residuals = x @ [0.3, -0.2] + rng.normal(0, 0.02, 12)
    # Settings without a choice: only then is a process without a row the same but for that row.
    monkeypatch.setattr("hwnas.predictors.latency.transfer.process.NOISE", (0.03, 0.030001))
    terms = [Term(np.ones((12, 1)), (0.3, 0.30001), 0.3), Term(x, (0.25, 0.25001), 0.25)]
    smooth = Smooth(np.zeros((12, 0)), np.zeros(0, dtype=int), (0.1, 0.10001), 0.1)

    def fitted(kept: np.ndarray):  # type: ignore[no-untyped-def]
        above = residuals[kept]
        return fit_process(
            terms, smooth, kept, above[None], np.repeat(above[:, None], len(kept), axis=1)[None],
            np.ones(len(kept)),
        )  # fmt: skip

    above, deviation = fitted(np.arange(12)).left_out
    for left in range(12):
        mean, variance = fitted(np.delete(np.arange(12), left)).predict(np.array([left]))
        assert above[0, left] == pytest.approx(residuals[left] - mean[0, 0], abs=1e-4)
        assert deviation[0, left] == pytest.approx(np.sqrt(variance[0, 0]), rel=1e-3)


def test_an_answer_with_half_the_error_counts_sixteen_times_as_much() -> None:
    logs = np.zeros(6)
    errors = 0.01 * np.array([1, -1, 1, -1, 1, -1])
    scales = np.array([[1.0, 2.0], [4.0, 4.0]])[:, :, None]
    answers = Answers(scales * errors, np.broadcast_to((0.01 * scales) ** 2, (2, 2, 6)))
    shares = blend_shares(answers, logs)
    np.testing.assert_allclose(shares / shares[0, 0], [[1, 1 / 16], [1 / 256, 1 / 256]])
    centre, deviation = blended(answers, np.array([[0.5, 0.0], [0.5, 0.0]]))
    np.testing.assert_allclose(centre, 2.5 * errors)
    # Half of what either varies by, and how far both are from their middle.
    np.testing.assert_allclose(deviation, 0.01 * np.sqrt((1 + 16) / 2 + 1.5**2))


def test_a_twin_among_many_known_devices_is_found() -> None:
    ours, single = [], []
    for seed in range(4):
        features, sources, truth = world(devices=15, seed=seed)
        rng = np.random.default_rng(seed)
        sources["twin"] = 1.7 * truth * np.exp(rng.normal(0, 0.02, len(truth)))
        measured = truth[choose_samples(features, sources, 10, seed)]
        others = truth.drop(measured.index)
        ours.append(mape(others, fit_transfer(features, sources, measured).predict(others.index)["value"]))
        single.append(mape(others, best_single(sources, measured)[others.index]))
    assert np.mean(ours) < 1.05 * np.mean(single)


@pytest.mark.parametrize("n", [10, 20])
def test_intervals_hold_without_any_known_device_too(n: int) -> None:
    held = []
    for seed in range(8):
        features, _, truth = world(seed=seed, noise=0.05, devices=1)
        nothing = pd.DataFrame(index=features.index)
        measured = truth[choose_samples(features, nothing, n, seed)]
        others = truth.drop(measured.index)
        predicted = fit_transfer(features, nothing, measured).predict(others.index)
        held.append(((others >= predicted["low"]) & (others <= predicted["high"])).mean())
    assert 0.85 <= np.mean(held) <= 0.98


def test_a_shorter_choice_is_the_beginning_of_a_longer_one() -> None:
    features, sources, _ = world(rows=1500)
    assert choose_samples(features, sources, 30, 3)[:10] == choose_samples(features, sources, 10, 3)


def test_an_overhead_that_each_call_has_is_learnt_without_any_feature() -> None:
    rng = np.random.default_rng(0)
    known = np.exp(rng.uniform(-1, 4, 200))
    sources = pd.DataFrame({"known": known})
    truth = pd.Series((0.7 * known + 2.0) * np.exp(rng.normal(0, 0.005, 200)))
    features = pd.DataFrame(index=sources.index)
    measured = truth[choose_samples(features, sources, 10, 0)]
    others = truth.drop(measured.index)
    assert mape(others, fit_transfer(features, sources, measured).predict(others.index)["value"]) < 0.02
