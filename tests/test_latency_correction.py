"""Correcting a table with whole networks measured later, on boards whose truth is known."""

from __future__ import annotations

import dataclasses
import random
from functools import cache

import numpy as np
import pytest
from latency_fakes import CACHE_MIB, COLD_MS_PER_MIB, OFFSET_MS, TRUE_SCALES, network_ms, own_ms, small_space

from hwnas.predictors.latency import (
    Calibration,
    Coefficients,
    DeviceProfile,
    HeldOut,
    HeldOutNetwork,
    LatencyTable,
    Row,
)
from hwnas.predictors.latency.correction import Correction, correct_table
from hwnas.predictors.latency.features import FEATURE_NAMES, op_features
from hwnas.space import ArchSpec, lower

NOISE = 0.008
"""What two processes that time the same network differ by, about."""


@cache
def networks() -> tuple[ArchSpec, ...]:
    rng = random.Random(0)
    found: dict[str, ArchSpec] = {}
    while len(found) < 120:
        arch = small_space().sample(rng)
        found[arch.id] = arch
    return tuple(found.values())


OTHERS = slice(60, None)
"""Networks that no correction sees."""


def heldout(error: float) -> HeldOut:
    rng = np.random.default_rng(1)
    return HeldOut(
        tuple(HeldOutNetwork(str(n), 1.0, float(np.exp(error * rng.standard_normal()))) for n in range(60))
    )


@cache
def right_table() -> LatencyTable:
    """Says what the fake board takes, exactly."""
    ops = {op.key: op for arch in networks() for op in lower(arch)}
    return LatencyTable(
        name="fake",
        profile=DeviceProfile(board="Fake Board", runtime="fake"),
        provenance="measured",
        rows={key: Row(own_ms(op), own_ms(op), own_ms(op), own_ms(op)) for key, op in ops.items()},
        calibration=Calibration(
            scales=TRUE_SCALES,
            common_scale=1.05,
            offset_ms=OFFSET_MS,
            cold_ms_per_mib=COLD_MS_PER_MIB,
            cache_mib=CACHE_MIB,
        ),
        heldout=heldout(0.012),
    )


def measured(
    *, slow_kind: str = "", by: float = 1.0, everything: float = 1.0, noise: float = NOISE
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the board takes now: one kind of op slower than the table says, or everything."""
    rng = np.random.default_rng(2)
    table = right_table()
    return np.array(
        [
            everything
            * (
                network_ms(arch)
                + sum((by - 1) * table.op_latency_ms(op) for op in lower(arch) if op.kind == slow_kind)
            )
            * np.exp(noise * rng.standard_normal())
            for arch in networks()
        ]
    )


def error_percent(table: LatencyTable, truth: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    pairs = zip(networks()[OTHERS], truth[OTHERS], strict=True)
    return float(np.mean([abs(table.predict(arch).value / ms - 1) for arch, ms in pairs])) * 100


def corrected(count: int, truth: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Correction:
    return correct_table(right_table(), networks()[:count], truth[:count].tolist())


def test_a_kind_that_is_a_fifth_slower_is_found_with_twenty_networks() -> None:
    truth = measured(slow_kind="ffn", by=1.2)
    found = corrected(20, truth)
    assert error_percent(right_table(), truth) > 6
    assert error_percent(found.table, truth) < 1.2  # the noise alone is 0.64
    assert found.method == "per kind"
    assert found.factors["ffn"] == pytest.approx(1.2, abs=0.03)
    assert found.mape_before_percent is not None and found.mape_before_percent > 6
    assert found.mape_after_percent is not None and found.mape_after_percent < 1.2


def test_a_kind_with_a_small_share_is_found_as_well() -> None:
    truth = measured(slow_kind="reuse", by=1.2)
    found = corrected(30, truth)
    assert error_percent(found.table, truth) < 0.7 * error_percent(right_table(), truth)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_a_machine_that_is_slower_as_a_whole_is_found_with_a_few_networks(count: int) -> None:
    truth = measured(everything=1.06)
    found = corrected(count, truth)
    assert found.factor == pytest.approx(1.06, abs=0.02)
    assert error_percent(right_table(), truth) > 5
    assert error_percent(found.table, truth) < 1.2


@pytest.mark.parametrize("count", [0, 1, 2, 5, 10, 20, 30, 60])
def test_a_table_that_is_right_stays_as_it_is(count: int) -> None:
    truth = measured()
    found = corrected(count, truth)
    shifts = [
        abs(found.table.predict(arch).value / right_table().predict(arch).value - 1)
        for arch in networks()[OTHERS]
    ]
    assert max(shifts) < 0.01
    assert found.networks == count


def test_the_factor_is_the_posterior_mean_of_a_normal_model() -> None:
    """One factor by hand: the mean of n ratios, drawn to 1 by (error / drift)^2 / n."""
    truth = measured(everything=1.06)
    found = corrected(5, truth)
    assert found.method == "one factor"
    ratios = [ms / right_table().predict(arch).value for arch, ms in zip(networks()[:5], truth, strict=False)]
    error = max(right_table().heldout.log_std, 0.01)
    prior = max(error, 0.03)
    expected = 1 + (np.mean(ratios) - 1) / (1 + error**2 / prior**2 / 5)
    assert found.factor == pytest.approx(expected)


def test_everything_times_a_factor_is_the_prediction_times_that_factor() -> None:
    """Holds for every part that a calibration has: none may be forgotten when everything is scaled."""
    table = dataclasses.replace(
        right_table(), calibration=dataclasses.replace(right_table().calibration, per_op_ms=0.001)
    )
    archs = networks()[:5]
    truth = [1.06 * table.predict(arch).value for arch in archs]
    found = correct_table(table, archs, truth)
    assert found.method == "one factor"
    for arch in networks():
        assert found.table.predict(arch).value == pytest.approx(found.factor * table.predict(arch).value)


def coefficients_table(error: float = 0.15) -> LatencyTable:
    return LatencyTable(
        name="estimated",
        profile=DeviceProfile(board="Fake Board", runtime="fake"),
        provenance="estimated",
        coefficients=Coefficients((4e-7, 6e-7, 2e-6, 2e-7, 1e-8, 0.004), offset_ms=0.05),
        heldout=heldout(error),
    )


def test_a_table_of_coefficients_has_them_scaled() -> None:
    table = coefficients_table()
    assert table.coefficients is not None
    twice = np.array(table.coefficients.values) * [1.3, 1, 1, 1, 1, 2]
    truth = [0.05 + float(sum(op_features(op) @ twice for op in lower(arch))) for arch in networks()]
    found = correct_table(table, networks()[:20], truth[:20])
    left = [found.table.predict(arch).value / ms - 1 for arch, ms in zip(networks(), truth, strict=True)]
    before = [table.predict(arch).value / ms - 1 for arch, ms in zip(networks(), truth, strict=True)]
    assert np.mean(np.abs(before[OTHERS])) > 0.15
    assert np.mean(np.abs(left[OTHERS])) < 0.02
    assert set(found.factors) == set(FEATURE_NAMES)


def test_the_interval_tightens_with_what_was_seen_and_holds_as_often_as_it_says() -> None:
    truth = measured(slow_kind="ffn", by=1.2)
    found = corrected(40, truth)
    intervals = [found.table.predict(arch) for arch in networks()[OTHERS]]
    holds = [
        one.low <= ms <= one.high
        for one, ms in zip(intervals, truth[OTHERS], strict=True)
        if one.low is not None and one.high is not None
    ]
    assert len(holds) == 60
    assert 0.8 <= np.mean(holds) <= 1
    assert len(found.table.heldout) == 40  # evidence from before the correction is of another table
    assert found.table.heldout.factor() < 1.03


def test_with_few_networks_the_tables_own_evidence_counts_as_well() -> None:
    found = corrected(5, measured(everything=1.06))
    assert len(found.table.heldout) == 65
    assert "5 networks measured later" in found.table.heldout.method


def test_a_network_that_was_disturbed_counts_less() -> None:
    truth = measured()[:10].copy()
    truth[3] *= 1.5
    spreads = [0.005] * 10
    naive = correct_table(right_table(), networks()[:10], truth.tolist(), spreads=spreads)
    spreads[3] = 0.4
    wary = correct_table(right_table(), networks()[:10], truth.tolist(), spreads=spreads)
    assert abs(wary.factor - 1) <= abs(naive.factor - 1)
    assert abs(wary.factor - 1) < 0.01


def test_a_corrected_table_says_so_and_the_given_one_is_not_touched() -> None:
    table = right_table()
    before = table.digest
    found = corrected(20, measured(everything=1.06))
    assert table.digest == before != found.table.digest
    assert "Corrected (one factor) with 20 networks measured later" in found.table.notes[-1]
    assert found.table.measurement["correction"]["networks"] == 20


def test_lengths_that_differ_and_times_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="each network needs one time, got 2 networks, 1 times"):
        correct_table(right_table(), networks()[:2], [1.0])
    with pytest.raises(ValueError, match="must be positive"):
        correct_table(right_table(), networks()[:1], [0.0])
