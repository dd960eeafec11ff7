"""What the latency benchmarks compute, against figures made by hand; nothing is timed here."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.errors import FileFormatError, UsageError
from hwnas.measure.plan import make_plan, of_any_size
from hwnas.predictors.latency import DeviceProfile, HeldOut, HeldOutNetwork, LatencyTable, Row
from hwnas.predictors.latency.pace import Pace
from hwnas.space import SearchSpace, lower, preset, preset_names

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import latency_baselines
import latency_budgets
import latency_builds
import latency_kills
import latency_minutes
import latency_rate
import latency_scores
import latency_truth

SPACE = SearchSpace.default()
PROFILE = DeviceProfile(board="b", runtime="onnxruntime")


def table_of(archs: list[Any], ms: float = 0.1, **more: Any) -> LatencyTable:
    """Every op of these networks takes so many milliseconds."""
    rows = {op.key: Row(ms=ms, low_ms=ms, high_ms=ms) for arch in archs for op in lower(arch)}
    return LatencyTable(name="t", profile=PROFILE, provenance="measured", rows=rows, **more)


# Scores


def test_scores_are_those_counted_by_hand() -> None:
    scores = latency_scores.score(
        ["a", "b", "c", "d"],
        [10.0, 20.0, 30.0, 40.0],
        [10.0, 20.8, 27.6, 46.0],
        [(9.0, 11.0), (20.5, 21.1), (27.0, 30.0), (40.0, 52.0)],
    )
    assert scores.mape_percent == pytest.approx((0 + 4 + 8 + 15) / 4)
    assert (scores.within_5_percent, scores.within_10_percent) == (50.0, 75.0)
    assert scores.spearman == pytest.approx(1.0)
    assert scores.coverage_percent == 75.0  # b is below its interval
    assert scores.half_width_percent == pytest.approx(100 * (1 / 10 + 0.3 / 20.8 + 1.5 / 27.6 + 6 / 46) / 4)
    assert (scores.worst, scores.worst_percent) == ("d", pytest.approx(15.0))


def test_without_intervals_there_is_no_coverage_and_its_cell_is_empty() -> None:
    scores = latency_scores.score(["a", "b"], [1.0, 2.0], [1.0, 1.5])
    row = dict(zip(latency_scores.COLUMNS, latency_scores.cells(scores), strict=True))
    assert row["in 90 % interval"] is None
    assert (row["worst %"], row["worst network"], row["MAPE %"]) == ("-25.0", "b", "12.50")


def test_the_median_difference_is_relative_to_the_first() -> None:
    assert latency_scores.median_difference_percent([1, 2, 4], [1.01, 2.0, 3.0]) == pytest.approx(1.0)


# Baselines


def test_a_line_is_found_again_and_never_slopes_down() -> None:
    line = latency_baselines.fit_line([1e6, 2e6, 5e6], [3.0, 4.0, 7.0])
    assert line.predict_ms([3e6]) == pytest.approx([5.0])
    falling = latency_baselines.fit_line([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    assert falling.slope == 0.0


def test_gradient_boosting_tells_two_groups_apart() -> None:
    known = np.array([[0.0], [1.0]] * 10)
    answer = latency_baselines.boosted_ms(known, [1.0, 9.0] * 10, np.array([[1.0], [0.0]]))
    assert answer == pytest.approx([9.0, 1.0], rel=0.01)


def test_baselines_are_fitted_on_the_networks_given_and_the_plain_sum_on_none() -> None:
    archs = [preset("uniform-t"), preset("uniform-m"), preset("shvit-s1"), preset("efficientvit-m0")]
    table = table_of(archs)
    ops = [len(lower(arch)) for arch in archs]
    twice = [(arch, 0.2 * count) for arch, count in zip(archs, ops, strict=True)]
    answers = latency_baselines.baselines_ms(table, twice, archs)
    assert list(answers) == [
        "MACs regression",
        "plain sum of rows",
        "sum, slope and offset",
        "gradient boosting on features",
    ]
    assert answers["plain sum of rows"] == pytest.approx([0.1 * count for count in ops])
    assert answers["sum, slope and offset"] == pytest.approx([0.2 * count for count in ops])


def test_features_of_a_network_hold_its_count_of_ops() -> None:
    arch = preset("uniform-t")
    assert latency_baselines.network_features(arch)[6:].sum() == len(lower(arch))


# Truth


def test_every_network_that_a_plan_measures_is_among_its_draws() -> None:
    draws = latency_truth.build_draws(table_of([preset("uniform-t")], measurement={"seed": 3}), SPACE)
    plan = make_plan(SPACE, networks=90, measure_all=False, seed=3)
    assert all(draws[label].id == arch.id for label, arch in plan.networks)


def test_unseen_networks_are_new_and_the_presets_are_in_their_groups() -> None:
    table = table_of([preset("uniform-t")], measurement={"seed": 3})
    networks = latency_truth.unseen_networks(table, 20, seed=1, space=SPACE)
    drawn = [network.arch.id for network in networks if network.group == latency_truth.RANDOM]
    known = {arch.id for arch in latency_truth.build_draws(table, SPACE).values()}
    assert len(set(drawn)) == 20 and not known & set(drawn)
    groups = {network.label: network.group for network in networks}
    assert groups["uniform-m"] == latency_truth.MACRO
    assert groups["elevit-l"] == latency_truth.OTHER
    assert len(networks) == 20 + len(preset_names())


def test_building_networks_are_found_by_their_labels_and_presets_are_left_out() -> None:
    arch = of_any_size(SPACE, random.Random("3/networks"))
    kept = (HeldOutNetwork(f"random-{arch.id}", 4.0, 4.1), HeldOutNetwork("uniform-t", 2.0, 2.1))
    table = table_of([arch], measurement={"seed": 3}, heldout=HeldOut(kept))
    ((found, ms),) = latency_truth.building_networks(table, latency_truth.build_draws(table, SPACE))
    assert (found.id, ms) == (arch.id, 4.0)


def test_a_table_whose_networks_its_seed_does_not_draw_is_refused() -> None:
    kept = (HeldOutNetwork("random-000000000000", 4.0, 4.1),)
    table = table_of([preset("uniform-t")], measurement={"seed": 3}, heldout=HeldOut(kept))
    with pytest.raises(UsageError, match="1 are not: random-000000000000"):
        latency_truth.unseen_networks(table, 1, seed=1, space=SPACE)


def small_truth(**more: Any) -> latency_truth.Truth:
    names = ("uniform-t", "uniform-s", "uniform-m")
    networks = tuple(latency_truth.Network(name, latency_truth.MACRO, preset(name)) for name in names)
    return latency_truth.Truth(
        table="t", profile=PROFILE, networks=networks, seed=1, rounds=2, piece=2, **more
    )


def piece(occasion: int, number: int, beside_ms: float, **clock_ms: float) -> dict[str, Any]:
    timings = {
        name.replace("_", "-"): {"clock_ms": ms, "beside_ms": beside_ms} for name, ms in clock_ms.items()
    }
    return {"occasion": occasion, "round": number, "number": 0, "timings": timings}


def test_pieces_cover_each_round_once_and_the_occasions_take_turns() -> None:
    planned = small_truth().planned()
    assert [entry[:3] for entry in planned] == [
        (occasion, number, index) for number in (0, 1) for occasion in (0, 1) for index in (0, 1)
    ]
    for start in range(0, len(planned), 2):
        labels = [*planned[start][3], *planned[start + 1][3]]
        assert sorted(labels) == ["uniform-m", "uniform-s", "uniform-t"]


def test_what_was_timed_is_not_timed_again() -> None:
    truth = small_truth(pieces=[piece(1, 0, 2.0, uniform_t=1.0)])
    assert len(truth.missing()) == 7
    assert (1, 0, 0) not in [entry[:3] for entry in truth.missing()]


def test_at_a_steady_speed_a_measurement_is_the_middle_of_the_rounds() -> None:
    pieces = [
        piece(0, 0, 2.0, uniform_t=1.0, uniform_s=2.0),
        piece(0, 1, 2.0, uniform_t=1.2, uniform_s=2.2),
        piece(1, 0, 9.0, uniform_t=5.0),
    ]
    measured = small_truth(pieces=pieces).measured(0)
    assert measured["uniform-t"].ms == measured["uniform-t"].clock_ms == pytest.approx(1.1)
    assert "uniform-m" not in measured


def test_what_slows_network_and_reference_network_alike_is_taken_out() -> None:
    names = {"uniform_t": 1.0, "uniform_s": 2.0, "uniform_m": 4.0}
    slowed = [1.0, 1.1, 1.2] * 10
    pieces = [
        piece(0, number, 2.0 * slow, **{name: ms * slow for name, ms in names.items()})
        for number, slow in enumerate(slowed)
    ]
    truth = small_truth(pieces=pieces)
    assert truth.measured(0, pace=Pace((math.log(2.0), 0.0, 0.0)))["uniform-s"].ms == pytest.approx(
        2.0, rel=0.01
    )
    assert truth.measured(0)["uniform-s"].ms == pytest.approx(2.2, rel=0.01)
    assert truth.measured(0, pace=Pace((math.log(2.0), 0.0, 0.0)))["uniform-s"].clock_ms == pytest.approx(2.2)


def test_only_networks_timed_on_both_occasions_are_compared() -> None:
    truth = small_truth(
        pieces=[piece(0, 0, 2.0, uniform_t=1.0, uniform_s=2.0), piece(1, 0, 2.0, uniform_t=1.0)]
    )
    found = latency_truth.in_group(truth, (latency_truth.MACRO,))
    assert [network.label for network in found] == ["uniform-t"]


def test_a_truth_file_holds_all_of_it(tmp_path: Path) -> None:
    truth = small_truth(pieces=[piece(0, 0, 2.0, uniform_t=1.0)], environment={"cores": 2})
    truth.save(tmp_path / "new" / "t.truth.json")
    assert latency_truth.Truth.load(tmp_path / "new" / "t.truth.json") == truth


def test_a_file_of_something_else_is_no_truth(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(FileFormatError, match="not a file of measured networks"):
        latency_truth.Truth.load(path)


# Rate, budgets, builds, kills


def test_the_difference_of_two_answers_is_the_largest_and_relative() -> None:
    assert latency_rate.difference(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)


def test_networks_are_spread_from_the_fastest_to_the_slowest() -> None:
    predicted_ms = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert latency_budgets.spread(predicted_ms, 3) == [1, 4, 0]
    assert latency_budgets.spread(predicted_ms, 9) == [1, 3, 4, 2, 0]
    assert latency_budgets.closest(predicted_ms, 2) == [0, 2]


def test_a_network_on_its_budget_holds_and_one_above_it_does_not() -> None:
    rows = [
        {"chosen": ["a", "b"], "budget_ms": 10.0, "measured_ms": 10.0},
        {"chosen": ["a"], "budget_ms": 10.0, "measured_ms": 10.5},
        {"chosen": ["b"], "budget_ms": 10.0, "measured_ms": 30.0},
    ]
    answer = latency_budgets.held(rows, "a", "measured_ms")
    assert (answer["networks"], answer["within"]) == (2, 1)
    assert answer["furthest_over_percent"] == pytest.approx(5.0)


def test_builds_are_compared_by_the_rows_that_both_measured() -> None:
    first = table_of([preset("uniform-t")], ms=0.1)
    rows = {key: dataclasses.replace(row, ms=0.103) for key, row in first.rows.items()}
    filled, *rest = rows
    rows[filled] = dataclasses.replace(rows[filled], ms=7.0, filled=True)
    answer = latency_builds.agreement(first, dataclasses.replace(first, rows=rows))
    assert answer["rows"] == len(rest)
    assert answer["median_percent"] == pytest.approx(3.0)
    assert answer["max_percent"] == pytest.approx(3.0)


def record(cell: str, process: int, *, reach: float = 0.0, number: int = 0) -> dict[str, Any]:
    """A record of the journal; undisturbed unless its median is uncertain."""
    return {
        "cell": cell,
        "pass": number,
        "process": process,
        "reach": reach,
        "reference_ms": 2.0,
        "cpu_share": 1.0,
        "throttled": [],
    }


def test_only_good_cells_of_earlier_processes_are_measured_needlessly_again() -> None:
    records = [
        record("good", 1),
        record("disturbed", 1, reach=0.5),
        record("disturbed", 1, reach=0.5),  # on the spot, in the same process
        record("disturbed", 2),  # for good reason
        record("good", 2, number=1),  # another pass
        record("good", 3),
    ]
    assert latency_kills.needlessly_again(records) == {3: ["good"]}


def test_a_line_torn_by_a_kill_counts_as_never_written() -> None:
    assert latency_kills.whole_lines(b'{"a":1}\n{"b":2}\n{"c"') == [b'{"a":1}', b'{"b":2}']
    assert latency_kills.whole_lines(b"") == []


def test_lines_that_are_gone_or_changed_are_lost() -> None:
    assert latency_kills.lost_lines([b"1", b"2", b"3"], [b"1", b"2", b"3", b"4"]) == 0
    assert latency_kills.lost_lines([b"1", b"2", b"3"], [b"1", b"x"]) == 2


def test_kills_come_at_random_moments_and_all_before_the_build_is_through() -> None:
    runs_s = latency_kills.moments(10, 40.0, random.Random(0))
    assert sum(runs_s) == pytest.approx(40.0)
    assert len(set(runs_s)) == 10 and min(runs_s) > 0


# Minutes


FULL = make_plan(SPACE, networks=60)
REQUIRED = len(make_plan(SPACE, networks=4, measure_all=False).ops)


@pytest.mark.parametrize("minutes", [1.0, 2.0, 5.0, 10.0])
def test_a_plan_within_minutes_takes_no_longer_and_is_part_of_the_whole(minutes: float) -> None:
    plan = latency_minutes.plan_within(minutes, FULL, REQUIRED)
    assert plan.seconds <= 60 * minutes
    assert set(plan.networks) <= set(FULL.networks)
    assert plan.ops[:REQUIRED] == FULL.ops[:REQUIRED]
    assert {op.key for op in (*plan.ops, *plan.filled)} == {op.key for op in FULL.ops}
    assert len(plan.ops) + len(plan.filled) == len(FULL.ops)


def test_more_minutes_give_more_networks_and_passes_and_ops() -> None:
    plans = [latency_minutes.plan_within(minutes, FULL, REQUIRED) for minutes in (1.0, 2.0, 5.0, 60.0)]
    for counts in (
        [len(plan.networks) for plan in plans],
        [plan.passes for plan in plans],
        [plan.cells for plan in plans],
    ):
        assert counts == sorted(counts)
    assert plans[-1].cells == FULL.cells


def test_too_few_minutes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"0\.2 minutes are too short"):
        latency_minutes.plan_within(0.2, FULL, REQUIRED)


def test_cells_of_later_passes_and_of_other_ops_are_left_out() -> None:
    plan = latency_minutes.plan_within(1.0, FULL, REQUIRED)
    op, other = plan.ops[0].key, plan.filled[0].key
    records = [{"cell": op, "pass": 0}, {"cell": op, "pass": plan.passes}, {"cell": other, "pass": 0}]
    assert latency_minutes.cells_within(plan, records) == records[:1]


def test_the_seconds_of_a_cell_are_those_of_its_runs() -> None:
    cell = {
        "runs_per_repeat": 4,
        "samples_ns": [1e6, 2e6],  # means of four runs each
        "cold_ns": [3e6, 3e6],
        "reference_ns": [5e6, 5e6, 5e6],  # each after one that is not timed
    }
    assert latency_minutes.timed_s(cell) == pytest.approx(0.012 + 0.006 + 0.030)


def test_samples_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.samples"
    header = {"format": "hwnas latency samples", "schema": 2, "question": {"seed": 0}}
    path.write_text(json.dumps(header) + "\n" + json.dumps({"cell": "random-1", "pass": 0}) + "\n")
    samples = latency_minutes.Samples.read(path)
    assert (samples.networks, samples.question["seed"]) == ({"random-1"}, 0)
    path.write_text('{"cell": "random-1"}\n')
    with pytest.raises(FileFormatError, match="not a measured cell"):
        latency_minutes.Samples.read(path)
