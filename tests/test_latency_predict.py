"""Predictions from a table: one at a time, many at once, with their interval."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from latency_fakes import small_space

from hwnas.errors import MissingOpError, SpaceError
from hwnas.measure.plan import space_ops
from hwnas.predictors.latency import (
    FEATURE_NAMES,
    Calibration,
    Coefficients,
    DeviceProfile,
    HeldOut,
    HeldOutNetwork,
    LatencyTable,
    Row,
    features,
    op_features,
)
from hwnas.predictors.latency.residual import Residual
from hwnas.space import SearchSpace, lower, preset

PROFILE = DeviceProfile("A board", "onnxruntime")


def coefficients_table() -> LatencyTable:
    return LatencyTable(
        name="c",
        profile=PROFILE,
        provenance="estimated",
        coefficients=Coefficients((3e-7, 4e-7, 1e-6, 1e-7, 1e-8, 0.003), 0.1),
        heldout=HeldOut(tuple(HeldOutNetwork(str(n), 1.0 + n / 100, 1.0) for n in range(20))),
    )


RESIDUAL = Residual(
    centre=(1.0, 0.5, 0.0, 4.0),
    scale=(0.5, 1.0, 0.5, 0.3),
    reach=2.0,
    points=((0.0, 0.5, 0.1, -0.2), (1.0, -0.5, 0.0, 0.3)),
    weights=(0.03, -0.05),
)


def rows_table(space: SearchSpace) -> LatencyTable:
    rng = random.Random(5)
    rows = {}
    for op in space_ops(space):
        ms = rng.uniform(0.01, 0.5)
        rows[op.key] = Row(ms, ms, ms, ms)
    scales = {"ffn": 1.2, "dw": 0.8, "merge": 0.0}
    return LatencyTable(
        name="r",
        profile=PROFILE,
        provenance="measured",
        rows=rows,
        calibration=Calibration(
            scales, 1.1, 0.3, 0.001, cold_ms_per_mib=0.5, cache_mib=1.0, residual=RESIDUAL
        ),
    )


def test_features_of_a_network_are_the_sums_counted_by_hand() -> None:
    ops = lower(preset("uniform-t"))
    total = features(ops)
    assert list(total) == list(FEATURE_NAMES)
    macs = total["pointwise_macs"] + total["conv_macs"] + total["depthwise_macs"]
    assert macs == sum(op.macs for op in ops)
    assert total["weight_bytes"] == sum(op.weight_bytes() for op in ops)
    dw = next(op for op in ops if op.key == "dw(c=64,side=14)")
    # 64 channels of 14x14, a 3x3 depthwise convolution and a residual sum: reads 1 + 2 maps, writes 2.
    area = 64 * 14 * 14
    assert op_features(dw).tolist() == [0, 0, 9 * area, 4 * 5 * area, 4 * (9 * 64 + 64), 2]


def test_a_prediction_of_coefficients_is_their_sum() -> None:
    table, arch = coefficients_table(), preset("shvit-s1")
    values = features(lower(arch)).values()
    expected = 0.1 + sum(v * c for v, c in zip(values, table.coefficients.values, strict=True))  # type: ignore[union-attr]
    assert table.predict(arch).value == pytest.approx(expected)
    assert table.predict(arch).unit == "ms"


def test_shares_and_overhead_sum_up_to_the_prediction() -> None:
    space = small_space()
    for table in (coefficients_table(), rows_table(space)):
        arch = space.sample(random.Random(1))
        ops = lower(arch)
        shares_ms, rest_ms = table.shares_ms(ops)
        assert sum(shares_ms) + rest_ms == pytest.approx(table.predict(arch).value)


def test_a_prediction_from_rows_is_calibrated_by_hand() -> None:
    space = small_space()
    table = rows_table(space)
    arch = space.sample(random.Random(2))
    scales = {"ffn": 1.2, "dw": 0.8, "merge": 0.0}
    ops = lower(arch)
    expected = 0.3 + 0.5 * max(sum(op.weight_bytes() for op in ops) / 2**20 - 1.0, 0)
    expected += sum(scales.get(op.kind, 1.1) * table.rows[op.key].ms + 0.001 for op in ops)
    sizes = (
        sum(table.rows[op.key].ms for op in ops),
        sum(op.weight_bytes() for op in ops) / 2**20,
        sum(op.activation_bytes() for op in ops) / 2**20,
        sum(op.nodes for op in ops),
    )
    logarithm = 0.0
    for point, weight in zip(RESIDUAL.points, RESIDUAL.weights, strict=True):
        away = [
            (math.log(size) - centre) / scale - there
            for size, centre, scale, there in zip(sizes, RESIDUAL.centre, RESIDUAL.scale, point, strict=True)
        ]
        logarithm += weight * math.exp(-sum(step**2 for step in away) / (2 * 2.0**2))
    expected *= math.exp(logarithm)
    assert table.predict(arch).value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["rows", "coefficients", "default space"])
def test_many_at_once_equal_one_at_a_time(name: str) -> None:
    space = SearchSpace.default() if name == "default space" else small_space()
    table = rows_table(space) if name == "rows" else coefficients_table()
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(200)]
    encoded = np.array([space.encode(arch) for arch in archs])
    alone = np.array([table.predict(arch).value for arch in archs])
    np.testing.assert_allclose(table.predict_many(encoded, space), alone, rtol=1e-12)
    # And again, from what is kept; and in another order.
    np.testing.assert_allclose(table.predict_many(encoded[::-1], space), alone[::-1], rtol=1e-12)


def test_many_at_once_take_plain_lists_and_none() -> None:
    space, table = small_space(), coefficients_table()
    vector = space.encode(space.sample(random.Random(0)))
    assert table.predict_many([vector], space).shape == (1,)
    assert table.predict_many(np.empty((0, len(space.decisions)), dtype=int), space).shape == (0,)
    default = SearchSpace.default()
    vector = default.encode(preset("uniform-t"))
    assert table.predict_many([vector])[0] == pytest.approx(table.predict(preset("uniform-t")).value)


def test_every_vector_of_no_network_is_refused() -> None:
    space, table = small_space(), coefficients_table()
    good = list(space.encode(space.sample(random.Random(0))))
    broken = 0
    for place, number in itertools.product(range(len(good)), (-2, -1, 0, 1, 2, 99)):
        vector = [*good[:place], number, *good[place + 1 :]]
        if tuple(vector) == space.repair(vector):
            table.predict_many([vector], space)
        else:
            broken += 1
            with pytest.raises(SpaceError):
                table.predict_many([good, vector], space)
    assert broken > 10
    with pytest.raises(SpaceError, match="shape"):
        table.predict_many([good[:-1]], space)


def test_a_missing_row_matters_to_the_networks_that_run_it_only() -> None:
    space = small_space()
    whole = rows_table(space)
    gone = next(key for key in whole.rows if key.startswith("reuse(c=192"))
    table = LatencyTable(
        name="r",
        profile=PROFILE,
        provenance="measured",
        rows={key: row for key, row in whole.rows.items() if key != gone},
    )
    rng = random.Random(0)
    archs = [space.sample(rng) for _ in range(100)]
    having = [arch for arch in archs if gone in {op.key for op in lower(arch)}]
    rest = [arch for arch in archs if arch not in having]
    assert having and rest
    table.predict_many([space.encode(arch) for arch in rest], space)
    with pytest.raises(MissingOpError) as caught:
        table.predict_many([space.encode(arch) for arch in archs], space)
    assert caught.value.keys == (gone,)


def test_the_interval_is_split_conformal() -> None:
    evidence = HeldOut(tuple(HeldOutNetwork(str(n), math.exp(n / 100), 1.0) for n in range(1, 20)))
    # 19 scores .01 to .19: rank ceil(20 * 0.9) = 18.
    assert evidence.factor(0.9) == pytest.approx(math.exp(0.18))
    assert evidence.factor(0.5) == pytest.approx(math.exp(0.10))
    assert HeldOut(evidence.networks[:3]).factor(0.9) == pytest.approx(math.exp(0.03))
    assert HeldOut().factor() == 1.0
    table = coefficients_table()
    estimate = table.predict(preset("uniform-t"))
    assert estimate.high == pytest.approx(estimate.value * table.heldout.factor(0.9))
    assert estimate.low == pytest.approx(estimate.value / table.heldout.factor(0.9))


def test_split_conformal_intervals_hold_as_often_as_they_say() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(400):
        networks = [HeldOutNetwork("n", rng.lognormvariate(0, 0.05), 1.0) for _ in range(40)]
        factor = HeldOut(tuple(networks)).factor(0.9)
        held += 1 / factor <= rng.lognormvariate(0, 0.05) <= factor
    assert 0.86 <= held / 400 <= 0.95


def test_held_out_errors_are_counted_by_hand() -> None:
    pairs = [(1.0, 1.02), (2.0, 1.8), (4.0, 4.4), (8.0, 8.0)]
    evidence = HeldOut(tuple(HeldOutNetwork("n", m, p) for m, p in pairs))
    assert evidence.mape_percent == pytest.approx((2 + 10 + 10 + 0) / 4)
    assert evidence.median_percent == pytest.approx(6)
    assert evidence.within_percent(5) == 50
    assert evidence.spearman == pytest.approx(1)
    assert HeldOut().mape_percent is None
