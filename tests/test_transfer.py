"""A new device from a few measurements: what transfer promises on any latency data."""

import numpy as np
import pandas as pd
import pytest

from hwnas.errors import UsageError
from hwnas.predictors.latency.transfer.model import choose_samples, fit_transfer


def world(
    *, rows: int = 300, devices: int = 5, noise: float = 0.01, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Networks whose milliseconds on a device are computing, moving and calling, each at the device's speed.

    Returns features, known devices, and one more device.
    """
    rng = np.random.default_rng(seed)
    macs = np.exp(rng.uniform(0, 4, rows))
    moved = macs ** rng.uniform(0.3, 0.9, rows) * np.exp(rng.normal(0, 0.3, rows))
    calls = rng.integers(20, 200, rows).astype(float)
    features = pd.DataFrame(
        {"macs": macs, "moved": moved, "calls": calls}, index=[f"net{i}" for i in range(rows)]
    )
    speeds = np.exp(rng.normal(0, 0.7, (devices + 1, 3))) * [1.0, 2.0, 0.05]
    parts = np.column_stack([macs, moved, calls])
    milliseconds = (parts @ speeds.T) * np.exp(rng.normal(0, noise, (rows, devices + 1)))
    table = pd.DataFrame(milliseconds, index=features.index, columns=[f"d{i}" for i in range(devices + 1)])
    return features, table.iloc[:, :-1], table.iloc[:, -1]


def mape(truth: pd.Series, predicted: pd.Series) -> float:
    return float((predicted / truth - 1).abs().mean())


def ridge(sources: pd.DataFrame, features: pd.DataFrame, measured: pd.Series) -> pd.Series:
    """Ridge regression on all logs, its strength chosen by leaving each measurement out."""
    table = np.log(pd.concat([sources, features], axis=1))
    table = (table - table.mean()) / table.std()
    x, y = table.loc[measured.index].to_numpy(), np.log(measured.to_numpy())
    centre, best = y.mean(), (np.inf, None)
    for strength in np.logspace(-3, 3, 13):
        hat = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T)
        left_out = (y - centre - x @ hat @ (y - centre)) / (1 - 1 / len(y) - np.diag(x @ hat))
        best = min(best, (float((left_out**2).sum()), hat @ (y - centre)), key=lambda pair: pair[0])
    return pd.Series(np.exp(centre + table.to_numpy() @ best[1]), index=table.index)


def best_single(sources: pd.DataFrame, measured: pd.Series) -> pd.Series:
    ratios = (measured.to_numpy()[:, None] / sources.loc[measured.index]).median()
    errors = (sources.loc[measured.index] * ratios).div(measured, axis=0).sub(1).abs().mean()
    best = errors.idxmin()
    return sources[best] * ratios[best]


def test_ten_measurements_tell_a_device_better_than_ridge_and_the_best_known_device() -> None:
    ours, theirs, single = [], [], []
    for seed in range(5):
        features, sources, truth = world(seed=seed)
        measured = truth[choose_samples(features, sources, 10, seed)]
        others = truth.drop(measured.index)
        predicted = fit_transfer(features, sources, measured).predict(others.index)
        ours.append(mape(others, predicted["value"]))
        theirs.append(mape(others, ridge(sources, features, measured)[others.index]))
        single.append(mape(others, best_single(sources, measured)[others.index]))
    assert np.mean(ours) < 0.025
    assert np.mean(ours) < 0.8 * np.mean(theirs)
    assert np.mean(ours) < 0.3 * np.mean(single)


def test_ninety_percent_intervals_hold_about_ninety_percent() -> None:
    held = []
    for seed in range(8):
        features, sources, truth = world(seed=seed, noise=0.03)
        measured = truth[choose_samples(features, sources, 20, seed)]
        others = truth.drop(measured.index)
        predicted = fit_transfer(features, sources, measured).predict(others.index)
        held.append(((others >= predicted["low"]) & (others <= predicted["high"])).mean())
    assert 0.85 <= np.mean(held) <= 0.97


def test_a_higher_level_gives_a_wider_interval() -> None:
    features, sources, truth = world()
    model = fit_transfer(features, sources, truth.iloc[:12])
    half, most = model.predict(truth.index[20:30], level=0.5), model.predict(truth.index[20:30], level=0.99)
    assert (most["low"] < half["low"]).all() and (half["high"] < most["high"]).all()
    assert (half["low"] < half["value"]).all() and (half["value"] < half["high"]).all()
    pd.testing.assert_series_equal(half["value"], most["value"])


def test_chosen_rows_are_better_than_random_ones() -> None:
    chosen_errors, random_errors = [], []
    for seed in range(6):
        features, sources, truth = world(seed=seed, devices=2)
        rng = np.random.default_rng(seed)
        for labels, errors in (
            (choose_samples(features, sources, 6, seed), chosen_errors),
            (rng.choice(truth.index, 6, replace=False), random_errors),
        ):
            others = truth.drop(labels)
            model = fit_transfer(features, sources, truth[labels])
            errors.append(mape(others, model.predict(others.index)["value"]))
    assert np.mean(chosen_errors) < np.mean(random_errors)


def test_without_any_known_device_the_features_alone_tell() -> None:
    features, _, truth = world(devices=1)
    nothing = pd.DataFrame(index=features.index)
    measured = truth[choose_samples(features, nothing, 20, 0)]
    others = truth.drop(measured.index)
    predicted = fit_transfer(features, nothing, measured).predict(others.index)
    assert mape(others, predicted["value"]) < 0.05


def test_a_source_table_without_rows_and_columns_is_no_known_device() -> None:
    features, _, truth = world(rows=40)
    measured = truth[choose_samples(features, pd.DataFrame(), 8, 0)]
    assert (fit_transfer(features, pd.DataFrame(), measured).predict(truth.index)["value"] > 0).all()


def test_without_any_feature_the_known_devices_alone_tell() -> None:
    ours, single = [], []
    for seed in range(4):
        features, sources, truth = world(seed=seed)
        labels_only = pd.DataFrame(index=features.index)
        measured = truth[choose_samples(labels_only, sources, 10, 0)]
        others = truth.drop(measured.index)
        predicted = fit_transfer(labels_only, sources, measured).predict(others.index)
        ours.append(mape(others, predicted["value"]))
        single.append(mape(others, best_single(sources, measured)[others.index]))
    assert np.mean(ours) < 0.03
    assert np.mean(ours) < 0.6 * np.mean(single)


def test_without_features_and_devices_every_row_gets_the_middle_of_what_was_measured() -> None:
    empty = pd.DataFrame(index=list("abcde"))
    labels = choose_samples(empty, empty, 3, 0)
    predicted = fit_transfer(empty, empty, pd.Series([9.0, 10.0, 11.0], index=labels)).predict(list("abcde"))
    assert predicted["value"].between(9, 11).all()
    assert (predicted["high"] > 11).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_measurements_scale_the_known_devices_and_say_that_they_are_unsure(count: int) -> None:
    features, sources, truth = world(devices=1)
    measured = truth[choose_samples(features, sources, count, 0)]
    predicted = fit_transfer(features, sources, measured).predict(truth.index)
    assert np.isfinite(predicted.to_numpy()).all()
    assert ((truth >= predicted["low"]) & (truth <= predicted["high"])).mean() > 0.6
    assert np.corrcoef(np.log(predicted["value"]), np.log(truth))[0, 1] > 0.9


def test_gaps_in_known_devices_cost_little() -> None:
    features, sources, truth = world()
    holes = np.random.default_rng(1).random(sources.shape) < 0.3
    holey = sources.mask(holes)
    holey.iloc[5] = np.nan  # a row that no device knows
    holey["never"] = np.nan
    measured = truth[choose_samples(features, holey, 20, 0)]
    others = truth.drop(measured.index)
    predicted = fit_transfer(features, holey, measured).predict(others.index)
    assert np.isfinite(predicted.to_numpy()).all()
    assert mape(others, predicted["value"]) < 0.06


def test_constant_repeated_and_empty_columns_change_nothing() -> None:
    features, sources, truth = world(rows=120)
    plain = fit_transfer(features, sources, truth.iloc[:12]).predict(truth.index)
    padded = features.assign(one=1.0, nothing=np.nan, again=features["macs"])
    again = fit_transfer(padded, sources, truth.iloc[:12]).predict(truth.index)
    np.testing.assert_allclose(plain["value"], again["value"], rtol=1e-3)


def test_features_with_gaps_infinities_flags_and_whole_numbers_are_taken() -> None:
    features, sources, truth = world(rows=80)
    odd = features.assign(flag=features["macs"] > 10, whole=range(80), negative=-features["moved"])
    odd.iloc[3, 0] = np.nan
    odd.iloc[4, 1] = np.inf
    odd["maybe"] = pd.array([1, None] * 40, dtype="Int64")
    predicted = fit_transfer(odd, sources, truth.iloc[:15]).predict(truth.index)
    assert mape(truth, predicted["value"]) < 0.05


def test_zero_and_negative_source_times_count_as_gaps() -> None:
    features, sources, truth = world(rows=80)
    wrong = sources.copy()
    wrong.iloc[7, 0], wrong.iloc[8, 1], wrong.iloc[9, 2] = 0.0, -1.0, np.inf
    predicted = fit_transfer(features, wrong, truth.iloc[:15]).predict(truth.index)
    assert mape(truth, predicted["value"]) < 0.03


@pytest.mark.parametrize(
    "labels",
    [
        [(i, f"op{i}") for i in range(60)],
        [frozenset({i}) for i in range(60)],
        list(range(100, 160)),
        [*(f"net{i}" for i in range(30)), *range(30)],
    ],
    ids=["tuples", "sets", "numbers", "mixed"],
)
def test_labels_may_be_anything_hashable(labels: list[object]) -> None:
    features, sources, truth = world(rows=60)
    index = pd.Index(labels, tupleize_cols=False)
    for frame in (features, sources, truth):
        frame.index = index
    chosen = choose_samples(features, sources, 10, 0)
    assert len(set(chosen)) == 10 and set(chosen) <= set(labels)
    places = [labels.index(label) for label in chosen]
    measured = pd.Series(truth.to_numpy()[places], index=pd.Index(chosen, tupleize_cols=False))
    predicted = fit_transfer(features, sources, measured).predict(labels)
    assert list(predicted.index) == labels
    assert mape(pd.Series(truth.to_numpy()), predicted["value"].reset_index(drop=True)) < 0.03


def test_a_label_that_comes_twice_is_chosen_once_and_predicted_as_often_as_asked() -> None:
    features, sources, truth = world(rows=40)
    doubled, known = pd.concat([features, features]), pd.concat([sources, sources])
    chosen = choose_samples(doubled, known, 40, 0)
    assert len(set(chosen)) == 40
    predicted = fit_transfer(doubled, known, truth[chosen[:10]]).predict(["net1", "net1"])
    assert predicted["value"].iloc[0] == predicted["value"].iloc[1]


def test_equal_rows_under_several_labels_do_no_harm() -> None:
    features, sources, truth = world(rows=60)
    same = [features, features.set_axis([f"copy{i}" for i in range(60)])]
    known = pd.concat([sources, sources.set_axis(same[1].index)])
    measured = pd.concat([truth, truth.set_axis(same[1].index)]).iloc[[0, 60, 1, 61, 2, 62, 3, 4, 5, 6, 7]]
    predicted = fit_transfer(pd.concat(same), known, measured).predict(truth.index)
    assert mape(truth, predicted["value"]) < 0.05


def test_a_row_measured_several_times_counts_with_its_median() -> None:
    features, sources, truth = world(rows=60)
    once = fit_transfer(features, sources, truth.iloc[:10])
    thrice = pd.concat([truth.iloc[:10], 0.9 * truth.iloc[:10], 5.0 * truth.iloc[:10]])
    pd.testing.assert_frame_equal(
        once.predict(truth.index), fit_transfer(features, sources, thrice).predict(truth.index)
    )


def test_sources_in_another_order_are_matched_by_label() -> None:
    features, sources, truth = world(rows=60)
    ordered = fit_transfer(features, sources, truth.iloc[:10]).predict(truth.index)
    turned = fit_transfer(features, sources.iloc[::-1], truth.iloc[:10]).predict(truth.index)
    pd.testing.assert_frame_equal(ordered, turned)


def test_one_disturbed_measurement_moves_the_others_little() -> None:
    features, sources, truth = world()
    measured = truth[choose_samples(features, sources, 20, 0)].copy()
    measured.iloc[4] *= 2.0
    others = truth.drop(measured.index)
    predicted = fit_transfer(features, sources, measured).predict(others.index)
    assert mape(others, predicted["value"]) < 0.05


def test_names_shared_by_several_columns_are_not_taken_for_quantities() -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, (400, 6))
    cost = np.array([1.0, 7.0, 2.0, 4.0])  # not in the order of the codes
    truth = pd.Series(cost[codes].sum(axis=1) * np.exp(rng.normal(0, 0.01, 400)))
    features = pd.DataFrame(codes, columns=[f"layer{i}" for i in range(6)])
    nothing = pd.DataFrame(index=features.index)
    measured = truth[choose_samples(features, nothing, 20, 0)]
    others = truth.drop(measured.index)
    assert mape(others, fit_transfer(features, nothing, measured).predict(others.index)["value"]) < 0.04


def test_the_same_arguments_give_the_same_answer_and_another_seed_other_rows() -> None:
    features, sources, truth = world(rows=1500)
    first, second = (choose_samples(features, sources, 10, 7) for _ in range(2))
    assert first == second
    assert first != choose_samples(features, sources, 10, 8)
    one, two = (fit_transfer(features, sources, truth[first]).predict(truth.index) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_all_rows_are_chosen_where_there_are_too_few() -> None:
    features, sources, _ = world(rows=6)
    assert sorted(choose_samples(features, sources, 10, 0)) == sorted(features.index)


def test_more_rows_than_are_chosen_with_care_are_filled_up_at_random() -> None:
    features, sources, _ = world(rows=1200)
    assert len(set(choose_samples(features, sources, 1100, 0))) == 1100


def test_no_rows_to_predict_give_an_empty_answer() -> None:
    features, sources, truth = world(rows=30)
    predicted = fit_transfer(features, sources, truth.iloc[:5]).predict([])
    assert list(predicted.columns) == ["value", "low", "high"] and len(predicted) == 0


def test_wrong_arguments_are_named() -> None:
    features, sources, truth = world(rows=30)
    with pytest.raises(UsageError, match="n must be at least 1, got 0"):
        choose_samples(features, sources, 0, 0)
    with pytest.raises(UsageError, match="at least one row, got none"):
        choose_samples(features.iloc[:0], sources.iloc[:0], 5, 0)
    with pytest.raises(UsageError, match=r"every row must be in features, got 'net99'"):
        fit_transfer(features, sources, pd.Series({"net99": 1.0}))
    with pytest.raises(UsageError, match=r"positive milliseconds, got 0.0 for 'net1'"):
        fit_transfer(features, sources, pd.Series({"net1": 0.0}))
    with pytest.raises(UsageError, match="no rows: measure some networks of choose_samples"):
        fit_transfer(features, sources, pd.Series({"net1": np.nan}))
    with pytest.raises(UsageError, match="2 labels again"):
        fit_transfer(features, pd.concat([sources, sources.iloc[:2]]), truth.iloc[:5])
    model = fit_transfer(features, sources, truth.iloc[:5])
    with pytest.raises(UsageError, match="level must be between 0 and 1, got 90"):
        model.predict(["net1"], level=90)
    with pytest.raises(UsageError, match="'net77' and 1 more"):
        model.predict(["net1", "net77", "net78"])


def test_only_rows_that_can_be_measured_are_chosen() -> None:
    features, sources, truth = world(rows=120)
    able = features.index[40:100]
    chosen = choose_samples(features, sources, 12, 0, candidates=able)
    assert len(set(chosen)) == 12 and set(chosen) <= set(able)
    assert chosen == choose_samples(features, sources, 12, 0, candidates=list(able))
    predicted = fit_transfer(features, sources, truth[chosen]).predict(truth.index)
    assert mape(truth, predicted["value"]) < 0.05
    assert choose_samples(features, sources, 5, 0, candidates=able[:3]) == list(able[:3])
    with pytest.raises(UsageError, match="'net999'"):
        choose_samples(features, sources, 5, 0, candidates=["net999"])
    with pytest.raises(UsageError, match="candidates must name at least one row"):
        choose_samples(features, sources, 5, 0, candidates=[])


def test_ragged_input_is_refused_and_told_what_to_give() -> None:
    features, sources, truth = world(rows=30)
    measured = truth.iloc[:6]
    with pytest.raises(UsageError, match="n must be a whole number, got 2.5"):
        choose_samples(features, sources, 2.5, 0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="features must be a pandas DataFrame, .* got dict"):
        fit_transfer(features.to_dict(), sources, measured)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sources must be a pandas DataFrame, .* got ndarray"):
        fit_transfer(features, sources.to_numpy(), measured)  # type: ignore[arg-type]
    for wrong in (measured.to_dict(), measured.to_numpy()):
        with pytest.raises(UsageError, match="measured must be a pandas Series"):
            fit_transfer(features, sources, wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="measured must be milliseconds as numbers, got 'fast'"):
        fit_transfer(features, sources, pd.Series({"net1": "fast"}))
    with pytest.raises(UsageError, match="features must hold numbers, got 'conv' in column 'kind'"):
        fit_transfer(features.assign(kind="conv"), sources, measured)
    model = fit_transfer(features, sources, measured)
    with pytest.raises(UsageError, match=r"got the text 'net1': give \['net1'\]"):
        model.predict("net1")
    with pytest.raises(UsageError, match="the text 'net1'"):
        choose_samples(features, sources, 3, 0, candidates="net1")


def test_int8_networks_are_told_from_float_devices_by_one_factor() -> None:
    """Known devices have float networks only; on the new one int8 takes 0.4 times as long."""
    for seed in range(3):
        features, sources, truth = world(rows=200, seed=seed)
        int8 = np.arange(len(truth)) % 3 == 0
        features["int8"] = int8.astype(float)
        sources = sources.mask(pd.Series(int8, index=sources.index), axis=0)
        truth = truth * np.where(int8, 0.4, 1.0)
        chosen = choose_samples(features, sources, 12, 0)
        assert 2 <= features.loc[chosen, "int8"].sum() <= 10
        predicted = fit_transfer(features, sources, truth[chosen]).predict(truth.index)["value"]
        assert mape(truth[int8], predicted[int8]) < 0.15
        assert mape(truth[~int8], predicted[~int8]) < 0.05


def test_one_measurement_of_twenty_that_is_twice_too_slow_costs_little() -> None:
    clean, disturbed = [], []
    for seed in range(4):
        features, sources, truth = world(seed=seed)
        measured = truth[choose_samples(features, sources, 20, 0)]
        others = truth.drop(measured.index)
        clean.append(mape(others, fit_transfer(features, sources, measured).predict(others.index)["value"]))
        wrong = measured.copy()
        wrong.iloc[7] *= 2
        disturbed.append(mape(others, fit_transfer(features, sources, wrong).predict(others.index)["value"]))
    assert np.median(disturbed) < 1.5 * np.median(clean)
