"""Building a table: plan, journal, verdicts, resuming after a kill, and one small build for real."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from latency_fakes import FakeExporter, FakeLink, network_ms, own_ms, small_space

from hwnas.errors import (
    BoardError,
    FileFormatError,
    HwnasError,
    MissingPackageError,
    UnstableError,
    UsageError,
)
from hwnas.measure.build import build_table
from hwnas.measure.cells import COMPANION_EVERY, judged, timings
from hwnas.measure.networks import measure_networks
from hwnas.measure.other_load import OtherLoad
from hwnas.measure.plan import Plan, make_plan, space_ops, spread_out
from hwnas.measure.remote.link import LocalLink
from hwnas.measure.samples import Journal, read_samples
from hwnas.predictors.latency import LatencyTable, read_summary
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.space import OpSpec, SearchSpace, lower, preset, preset_names

HERE = Path(__file__).parent


def small_plan(*, networks: int = 18, **changes: Any) -> Plan:
    """A dozen networks of the small space, its ops, and no presets' ops: a second's work."""
    space = small_space()
    plan = make_plan(space, networks=networks, passes=3)
    own = {op.key for op in space_ops(space)}
    plan = dataclasses.replace(plan, ops=tuple(op for op in plan.ops if op.key in own))
    return dataclasses.replace(plan, **changes)


def build(
    plan: Plan, link: FakeLink, samples: Path, *, resume: bool = False, threads: int = 1, **options: Any
) -> LatencyTable:
    return build_table(
        plan,
        name="fake",
        runtime="fake",
        threads=threads,
        batch=1,
        precision="fp32",
        exporter=FakeExporter(),
        start=link.start,
        samples=samples,
        created="2026-11-21",
        resume=resume,
        sleep=lambda seconds: None,
        **options,
    )


# --- the plan ---


def test_the_ops_of_a_space_are_those_of_its_networks() -> None:
    space = small_space()
    rng = random.Random(0)
    seen = {op.key for _ in range(1500) for op in lower(space.sample(rng))}
    listed = [op.key for op in space_ops(space)]
    assert sorted(listed) == sorted(seen)
    assert len(listed) == len(set(listed))


def test_a_plan_of_ten_minutes_measures_the_presets_ops_and_much_of_the_space() -> None:
    plan = make_plan(SearchSpace.default(), minutes=10)
    assert 590 < plan.seconds <= 600
    assert len(plan.ops) > 0.4 * (len(plan.ops) + len(plan.filled))
    keys = {op.key for op in plan.ops}
    for name in preset_names():
        assert {op.key for op in lower(preset(name))} <= keys


def test_no_preset_is_among_the_networks_of_a_plan() -> None:
    plan = make_plan(SearchSpace.default(), networks=12)
    assert (len(plan.drawn), len(plan.spread)) == (8, 4)
    measured = {arch.id for _, arch in plan.networks}
    assert len(measured) == 12
    assert measured.isdisjoint(preset(name).id for name in preset_names())


def test_every_pass_has_every_network_and_every_second_one_every_op() -> None:
    plan = small_plan(passes=3)
    networks, ops = {label for label, _ in plan.networks}, {op.key for op in plan.ops}
    assert [set(plan.order(number)) for number in range(3)] == [networks | ops, networks, networks | ops]
    assert plan.cells == sum(len(plan.order(number)) for number in range(3))


def test_a_plan_within_minutes_measures_a_part_and_fills_the_rest() -> None:
    space = SearchSpace.default()
    plan = make_plan(space, minutes=5, networks=30)
    assert plan.seconds <= 300
    assert plan.filled
    both = [op.key for op in plan.ops + plan.filled]
    assert len(both) == len(set(both))
    assert {op.key for op in space_ops(space)} <= set(both)


def test_minutes_that_are_too_few_are_refused() -> None:
    with pytest.raises(UsageError, match="got --minutes 0.5"):
        make_plan(SearchSpace.default(), minutes=0.5)


def test_a_plan_is_the_same_every_time_and_its_passes_are_ordered_differently() -> None:
    first, second = make_plan(small_space()), make_plan(small_space())
    assert first.digest == second.digest
    assert first.order(0) == second.order(0)
    assert first.order(0) != first.order(2)
    assert sorted(first.order(0)) == sorted(first.order(2))
    assert make_plan(small_space(), seed=1).digest != first.digest


def test_ops_that_are_spread_out_reach_from_the_smallest_to_the_largest() -> None:
    ops = [OpSpec("ffn", (("c", c), ("side", 14), ("hidden", 2 * c))) for c in range(64, 449, 16)]
    widths = sorted(dict(op.settings)["c"] for op in spread_out(ops, 3, near=[ops[0]]))
    assert widths[-1] == 448
    assert len(widths) == 3
    assert spread_out(ops, 99) == ops


# --- the journal ---


def test_a_journal_torn_at_every_byte_goes_on_at_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, {"name": "a"}, resume=False) as journal:
        journal.append({"n": 1})
        journal.append({"n": 2})
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    for length in range(len(lines[0]), len(data)):
        path.write_bytes(data[:length])
        whole = 0 if length < len(lines[0]) + len(lines[1]) else 1
        with Journal(path, {"name": "a"}, resume=True) as journal:
            assert journal.records == [{"n": n + 1} for n in range(whole)]
            journal.append({"n": 9})
        assert read_samples(path).rows[-1] == {"n": 9}


def test_a_journal_torn_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"format": "hwnas lat')
    with Journal(path, {"name": "a"}, resume=True) as journal:
        assert journal.records == []
    assert read_samples(path).of == {"name": "a"}


def test_a_journal_of_another_question_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, {"threads": 1, "name": "a"}, resume=False).close()
    with pytest.raises(UsageError, match="threads: then 1, now 2"):
        Journal(path, {"threads": 2, "name": "a"}, resume=True)
    with pytest.raises(UsageError, match="--resume"):
        Journal(path, {"threads": 1, "name": "a"}, resume=False)


def test_a_foreign_or_damaged_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"a": 1}\n')
    with pytest.raises(FileFormatError, match="line 1: not a measured cell"):
        Journal(path, {}, resume=True)
    path.write_text('{"format": "hwnas latency samples", "version": 99}\n')
    with pytest.raises(FileFormatError, match="upgrade"):
        Journal(path, {}, resume=True)
    path.write_text("nonsense\n")
    with pytest.raises(FileFormatError, match="line 1: not a measured cell"):
        Journal(path, {}, resume=True)


def test_two_builds_do_not_write_one_journal(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", {}, resume=False),
        pytest.raises(HwnasError, match="another build is writing it"),
    ):
        Journal(tmp_path / "j", {}, resume=True)


# --- verdicts ---


def record(
    cell: str, ms: float, *, companion_ms: float = 2.0, cpu: float = 1.0, number: int = 0
) -> dict[str, Any]:
    return {
        "pass": number,
        "process": 1,
        "cell": cell,
        "median_ms": ms,
        "p95_ms": 1.1 * ms,
        "reach": 0.01,
        "companion_ms": companion_ms,
        "cpu_share": cpu,
        "throttled": [],
    }


def disturbed_cells(records: list[dict[str, Any]]) -> list[str]:
    return [kept["cell"] for kept, disturbed in judged(records, lambda name: True) if disturbed]


def test_a_cell_beside_a_companion_far_slower_than_when_calm_is_disturbed() -> None:
    speeds_ms = (2.0, 2.1, 2.9, 2.0, 2.5)
    records = [record(cell, 3.0, companion_ms=ms) for cell, ms in zip("abcde", speeds_ms, strict=True)]
    assert disturbed_cells(records) == ["c"]


def test_a_cell_whose_median_stayed_uncertain_is_disturbed() -> None:
    assert disturbed_cells([record("a", 3.0) | {"reach": 0.08}, record("b", 3.0)]) == ["a"]


def test_where_all_medians_are_uncertain_only_the_far_more_uncertain_are_disturbed() -> None:
    reaches = (0.06, 0.07, 0.1, 0.06, 0.3)
    records = [record(cell, 3.0) | {"reach": reach} for cell, reach in zip("abcde", reaches, strict=True)]
    assert disturbed_cells(records) == ["e"]


def test_a_cell_without_the_cpu_or_on_a_throttled_board_is_disturbed() -> None:
    records = [record("a", 3.0, cpu=0.6), record("b", 3.0), record("c", 3.0) | {"throttled": ["throttled"]}]
    assert disturbed_cells(records) == ["a", "c"]


def test_the_last_good_attempt_counts_and_a_bad_one_does_not_replace_it() -> None:
    records = [record("a", 9.0, cpu=0.5), record("a", 3.0), record("a", 8.0, cpu=0.5)]
    records += [record("a", 5.0, number=1, cpu=0.5)]
    found = timings(records, lambda name: True)["a"]
    assert found.passes_ms == (3.0, 5.0)
    assert found.disturbed
    assert found.ms == 4.0
    assert found.p95_ms == pytest.approx(4.4)


def test_a_slower_pass_is_brought_to_the_middle_speed() -> None:
    # Thirty networks in three passes; all took 6 % longer in the second, and so did the companion.
    slowed = (1.0, 1.06, 1.0)
    records = [
        record(f"n{size}", size * slow, companion_ms=2 * slow, number=number)
        for number, slow in enumerate(slowed)
        for size in range(1, 31)
    ]
    found = timings(records, lambda name: True)
    for size in range(1, 31):
        assert found[f"n{size}"].spread < 0.006
        assert size <= found[f"n{size}"].ms < 1.03 * size


# --- building ---


def test_a_build_finds_the_boards_times_and_calibration(tmp_path: Path) -> None:
    plan, link = small_plan(), FakeLink()
    table = build(plan, link, tmp_path / "s")
    assert table.provenance == "measured"
    assert table.profile.board == "Fake Board, one"
    for op in plan.ops:
        assert table.rows[op.key].ms == pytest.approx(own_ms(op))
    rng = random.Random(9)
    space = small_space()
    for _ in range(20):
        arch = space.sample(rng)
        assert table.predict(arch).value == pytest.approx(network_ms(arch), rel=0.03)
    assert {item.label for item in table.heldout.networks} == {label for label, _ in plan.drawn}
    assert table.heldout.method == "cross-validation"
    assert table.heldout.mape_percent < 3  # type: ignore[operator]
    assert link.starts == 1 + plan.passes  # the environment, then a fresh process a pass


def test_the_companion_is_one_image_of_one_network_loaded_afresh_every_few_cells(tmp_path: Path) -> None:
    plan, link = small_plan(passes=1), FakeLink()
    table = build(plan, link, tmp_path / "s")
    sent = [model for model in link.companions if model]
    assert sent == [FakeExporter().network_model(plan.companion[1], batch=1)]
    assert len(link.companions) == -(-plan.cells // COMPANION_EVERY)
    assert table.pace is None  # a dozen networks do not tell it


def test_ops_that_are_not_measured_are_filled_and_marked(tmp_path: Path) -> None:
    plan = small_plan()
    left_out = tuple(op for op in plan.ops if op.kind == "ffn")[::3]
    kept = tuple(op for op in plan.ops if op not in left_out)
    table = build(dataclasses.replace(plan, ops=kept, filled=left_out), FakeLink(), tmp_path / "s")
    assert set(table.filled) == {op.key for op in left_out}
    for op in left_out:
        assert table.rows[op.key].ms == pytest.approx(own_ms(op), rel=0.1)
    assert table.measurement["fill_error_percent"]["ffn"] < 10
    assert any("filled in by a cost model" in note for note in table.notes)


def test_disturbed_cells_are_measured_again(tmp_path: Path) -> None:
    plan = small_plan()
    # Timings 20 to 59 run while something else makes the board half as fast.
    link = FakeLink(disturb=lambda n: 2.0 if 20 <= n < 60 else 1.0)
    table = build(plan, link, tmp_path / "s")
    assert table.disturbed == ()
    for op in plan.ops:
        assert table.rows[op.key].ms == pytest.approx(own_ms(op))


def test_a_pass_that_later_ones_show_to_have_been_disturbed_is_measured_again(tmp_path: Path) -> None:
    plan = small_plan()
    # The first process asks what there is, the second is the first pass. Alone, that one looks steady:
    # its companion is as slow in every cell.
    link = FakeLink(disturb=lambda n: 1.5 if link.starts <= 2 else 1.0)
    table = build(plan, link, tmp_path / "s")
    assert table.disturbed == ()
    for op in plan.ops:
        assert table.rows[op.key].high_ms == pytest.approx(own_ms(op))


def test_a_board_whose_cpu_others_take_gives_a_table_that_says_so(tmp_path: Path) -> None:
    plan, starved = small_plan(), FakeLink(cpu_share=lambda n: 0.5)
    table = build(plan, starved, tmp_path / "s")
    assert set(table.disturbed) == {op.key for op in plan.ops}
    (caveat,) = table.caveats
    cells = len(plan.ops) + len(plan.networks)
    assert caveat == (
        f"noisy measurement: {cells} of {cells} cells stayed disturbed by other programs or heat"
    )
    # The first 20 cells of each process are tried three times on the spot, then it is known to be of no
    # use; and all are timed again only once, since that did not help either.
    assert starved.timings <= 2 * (plan.cells + plan.passes * 2 * 21)
    table.save(tmp_path / "noisy.yaml")
    assert LatencyTable.load(tmp_path / "noisy.yaml").caveats == table.caveats
    assert read_summary(tmp_path / "noisy.yaml").caveats == table.caveats


def test_a_build_with_many_disturbed_cells_is_marked_as_noisy(tmp_path: Path) -> None:
    plan, link = small_plan(), FakeLink()
    starved = {op.key for op in plan.ops[::4]}
    original = link.measure

    def measure(model: bytes, **how: Any) -> dict[str, Any]:
        own = json.loads(model)["op"] in starved
        return original(model, **how) | ({"cpu_share": 0.5} if own else {})

    link.measure = measure  # type: ignore[method-assign]
    table = build(plan, link, tmp_path / "s")
    assert set(table.disturbed) == starved
    assert any("cells stayed disturbed" in caveat for caveat in table.caveats)


def slowed_later(plan: Plan, times: float) -> FakeLink:
    """A board on which everything but the companion takes so many times longer from the second pass on."""
    link, names, first = FakeLink(), iter(range(10**6)), len(plan.order(0))
    original = link.measure

    def measure(model: bytes, **how: Any) -> dict[str, Any]:
        answer = original(model, **how)
        if next(names) >= first:
            answer["median_ms"] *= times
        return answer

    link.measure = measure  # type: ignore[method-assign]
    return link


def test_networks_that_differ_between_processes_mark_the_table_as_noisy(tmp_path: Path) -> None:
    plan = small_plan()
    quiet = build(plan, FakeLink(), tmp_path / "quiet")
    assert quiet.measurement["network_spread_percent"] == 0
    assert quiet.caveats == ()
    assert "noisy" not in quiet.measurement
    table = build(plan, slowed_later(plan, 1.1), tmp_path / "noisy")
    assert table.measurement["network_spread_percent"] == pytest.approx(9.1, abs=0.1)
    assert table.measurement["noisy"]["spread_percent"] == table.measurement["network_spread_percent"]
    assert "whole networks differed by 9.1% between processes" in table.caveats[0]
    assert quiet.heldout.fresh_std < 0.001
    assert 0.03 < table.heldout.fresh_std < 0.06  # what one process is off by is in the interval


def test_networks_that_differ_by_a_quarter_make_no_table_and_go_on(tmp_path: Path) -> None:
    plan = small_plan()
    with pytest.raises(UnstableError, match=r"networks differ by 3\d\.\d% between processes") as caught:
        build(plan, slowed_later(plan, 1.5), tmp_path / "s")
    assert caught.value.exit_code == 5
    assert _lines(tmp_path / "s") == 1 + plan.cells


def test_networks_that_two_processes_rank_differently_make_no_table(tmp_path: Path) -> None:
    plan, link = small_plan(networks=24), FakeLink()
    original, rng = link.measure, random.Random(0)

    def measure(model: bytes, **how: Any) -> dict[str, Any]:
        answer = original(model, **how)
        if json.loads(model)["op"] is None:
            answer["median_ms"] = 5 * (1 + 0.1 * rng.random())
        return answer

    link.measure = measure  # type: ignore[method-assign]
    with pytest.raises(
        UnstableError, match=r"rank the networks with a correlation of -?0\.\d\d, 0\.9 needed"
    ):
        build(plan, link, tmp_path / "s")


# --- what a board answers ---


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("median_ms", float("nan"), "must be a finite number"),
        ("median_ms", 0.0, "must be above 0"),
        ("companion_ms", -1.0, "must be above 0"),
        ("reach", "fast", "must be a finite number"),
        ("samples_ns", [1.0, float("inf")], "must be a finite number"),
        ("cold_ns", None, "must be a list"),
        ("cpu_share", ..., "is missing"),
    ],
)
def test_a_damaged_answer_of_a_board_is_refused_with_the_field(
    tmp_path: Path, field: str, value: Any, told: str
) -> None:
    link = FakeLink()
    original = link.measure

    def measure(model: bytes, **how: Any) -> dict[str, Any]:
        answer = original(model, **how)
        if link.timings == 5:
            answer[field] = value
            if value is ...:
                del answer[field]
        return answer

    link.measure = measure  # type: ignore[method-assign]
    with pytest.raises(BoardError, match=f"is damaged: {field} {told}") as caught:
        build(small_plan(), link, tmp_path / "s")
    assert caught.value.exit_code == 4
    assert _lines(tmp_path / "s") == 1 + 4  # what came before is kept, the damaged answer is not


# --- within a budget ---


def ticking(step_s: float) -> Callable[[], float]:
    """A clock that goes on by so much each time it is read."""
    now = itertools.count()
    return lambda: step_s * next(now)


def test_cells_that_disagree_are_timed_again_in_further_passes(tmp_path: Path) -> None:
    plan, link = small_plan(), FakeLink()
    shaky = {label for label, _ in plan.networks[:3]}
    models = {FakeExporter().network_model(dict(plan.networks)[label], batch=1) for label in shaky}
    original, rng = link.measure, random.Random(1)

    def measure(model: bytes, **how: Any) -> dict[str, Any]:
        answer = original(model, **how)
        if model in models:
            answer["median_ms"] *= 1 + rng.uniform(-0.04, 0.04)
        return answer

    link.measure = measure  # type: ignore[method-assign]
    table = build(plan, link, tmp_path / "s", budget_s=600.0)
    records = [json.loads(line) for line in (tmp_path / "s").read_text().splitlines()[1:]]
    further = [record for record in records if record["pass"] >= plan.passes]
    assert shaky <= {record["cell"] for record in further}
    assert all("(" not in record["cell"] for record in further)  # no op disagreed
    assert len({record["process"] for record in further}) == len({record["pass"] for record in further})
    assert table.measurement["most_passes_of_a_cell"] > plan.passes
    assert (
        not build(plan, FakeLink(), tmp_path / "quiet", budget_s=600.0).measurement["most_passes_of_a_cell"]
        > plan.passes
    )


def test_a_budget_that_ends_early_ends_the_passes_and_still_makes_a_table(tmp_path: Path) -> None:
    plan, link = small_plan(passes=6), FakeLink()
    told: list[str] = []
    table = build(
        plan,
        link,
        tmp_path / "s",
        budget_s=1.0,
        clock=ticking(1.0),
        progress=lambda phase, done, total, item: told.append(f"{phase} {done} of {total}"),
    )
    assert link.timings == len(plan.order(0)) + len(plan.order(1))  # what a table needs, and no more
    assert told[-1].startswith("measuring (past --minutes: the least that a table needs)")
    assert told[-1].endswith(f"of {plan.cells}")
    assert set(table.rows) == {op.key for op in (*plan.ops, *plan.filled)}
    assert len(table.heldout) == len(plan.drawn)


def test_a_build_that_a_budget_cut_short_goes_on_with_more(tmp_path: Path) -> None:
    plan = small_plan(passes=4)
    build(plan, FakeLink(), tmp_path / "s", budget_s=1.0, clock=ticking(1.0))
    link = FakeLink()
    table = build(plan, link, tmp_path / "s", resume=True, budget_s=600.0)
    assert link.timings == plan.cells - len(plan.order(0)) - len(plan.order(1))
    assert table.rows == build(plan, FakeLink(), tmp_path / "whole").rows


def test_what_a_process_as_a_whole_is_slower_by_is_taken_out_of_its_cells(tmp_path: Path) -> None:
    # Thirty networks in three processes; the second is 3 % slower, which the companion does not show, and
    # missed every second one of them.
    records = [
        record(f"n{size}", size * slow, number=number)
        for number, slow in enumerate((1.0, 1.03, 1.0))
        for size in range(1, 31)
        if number != 1 or size % 2
    ]
    found = timings(records, lambda name: True)
    for size in range(1, 31):
        assert found[f"n{size}"].ms == pytest.approx(size, rel=0.002)
    assert found["n3"].spread == pytest.approx(0.03, abs=0.005)  # it is still told


def test_the_standard_error_falls_with_the_passes() -> None:
    rng = random.Random(0)
    names = [f"n{number}" for number in range(40)]
    records = [
        record(name, 5 * (1 + rng.gauss(0, 0.02)), number=number)
        for name in names
        for number in range(2 if name < "n2" else 8)
    ]
    found = timings(records, lambda name: True)
    few = [found[name].error for name in names if name < "n2"]
    many = [found[name].error for name in names if name >= "n2"]
    assert 0.010 < sum(few) / len(few) < 0.025
    assert sum(many) / len(many) < 0.7 * sum(few) / len(few)


# --- other programs ---


def test_other_programs_are_told_by_name_and_share_and_not_our_own(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")

    def process(pid: int, name: str, parent: int, cpu_s: float) -> None:
        folder = tmp_path / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(round(cpu_s * ticks)), "0", *["0"] * 5]
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")

    def second(used_s: float) -> None:
        process(1, "init", 0, used_s)
        process(10, "hwnas", 1, used_s)  # this one
        process(11, "agent", 10, used_s)  # and what it started
        process(20, "a (b) c", 1, 0.9 * used_s)
        process(21, "cc1", 1, 0.3 * used_s)
        process(22, "cc1", 1, 0.3 * used_s)
        process(23, "cron", 1, 0.01 * used_s)

    second(1.0)
    times = iter((0.0, 2.0))
    load = OtherLoad(proc=tmp_path, own=10, clock=lambda: next(times))
    second(3.0)
    assert [str(one) for one in load.programs()] == ["a (b) c 90% of a core", "cc1 60% of a core"]


def test_without_proc_nobody_else_is_seen(tmp_path: Path) -> None:
    assert OtherLoad(proc=tmp_path / "none").programs() == ()


def test_a_cell_that_does_not_run_is_left_out_and_told(tmp_path: Path) -> None:
    plan = small_plan()
    broken = next(op.key for op in plan.ops if op.kind == "ffn")
    table = build(plan, FakeLink(fails=(broken,)), tmp_path / "s")
    assert table.rows[broken].filled
    assert any("1 cells did not run" in note and broken in note for note in table.notes)


def test_a_build_goes_on_with_the_same_question_only(tmp_path: Path) -> None:
    build(small_plan(), FakeLink(), tmp_path / "s")
    with pytest.raises(UsageError, match="threads: then 1, now 2"):
        build(small_plan(), FakeLink(), tmp_path / "s", resume=True, threads=2)
    with pytest.raises(UsageError, match=r"runtime_version: then 1\.0, now 2\.0"):
        build(small_plan(), FakeLink(version="2.0"), tmp_path / "s", resume=True)


def test_a_finished_build_measures_nothing_again(tmp_path: Path) -> None:
    first = build(small_plan(), FakeLink(), tmp_path / "s")
    link = FakeLink()
    assert build(small_plan(), link, tmp_path / "s", resume=True) == first
    assert link.timings == 0


def test_a_runtime_that_is_not_installed_is_told_with_its_command(tmp_path: Path) -> None:
    link = FakeLink()
    missing = {"version": None, "providers": [], "missing": "pip install onnxruntime"}
    link.hello = lambda: {"environment": {}, "runtime": missing}  # type: ignore[method-assign]
    with pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        build(small_plan(), link, tmp_path / "s")


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from latency_fakes import FakeLink
from test_latency_build import build, small_plan
build(small_plan(), FakeLink(sleep_s=0.004), Path(sys.argv[1]), resume=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_build_killed_at_a_random_moment_resumes_to_the_same_rows(tmp_path: Path, seed: int) -> None:
    plan, samples = small_plan(), tmp_path / "s"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(samples), str(HERE)], cwd=HERE.parent)
    wanted = random.Random(seed).randrange(2, plan.cells)
    deadline = time.monotonic() + 60
    while _lines(samples) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = _lines(samples)
    assert before >= min(wanted, plan.cells)
    link = FakeLink()
    table = build(plan, link, samples, resume=True)
    assert table.rows == build(plan, FakeLink(), tmp_path / "other").rows
    assert link.timings <= plan.cells - (before - 2)  # all but what whole lines hold, the first apart


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


# --- for real ---


def test_a_small_build_for_real(tmp_path: Path) -> None:
    from hwnas.export.timing import exporter

    op = OpSpec("dw", (("c", 8), ("side", 4)))
    arch = preset("uniform-t").adapted(resolution=32, stem_stride=4, classes=10)
    plan = Plan(
        ops=(op, OpSpec("ffn", (("c", 8), ("side", 4), ("hidden", 16)))),
        filled=(),
        drawn=(),
        spread=(),
        companion=("companion", arch),
        passes=1,
        seed=0,
    )
    table = build_table(
        plan,
        name="real",
        runtime="onnxruntime",
        threads=1,
        batch=1,
        precision="fp32",
        exporter=exporter("onnxruntime", "fp32"),
        start=lambda: LocalLink("onnxruntime"),
        samples=tmp_path / "s",
        created="2026-11-21",
        sleep=lambda seconds: None,
    )
    assert table.profile.provider == "CPUExecutionProvider"
    assert 0 < table.rows[op.key].ms < 5
    table.save(tmp_path / "real.yaml")
    assert LatencyTable.load(tmp_path / "real.yaml").rows.keys() == table.rows.keys()
    first = json.loads((tmp_path / "s").read_text().splitlines()[1])
    assert len(first["samples_ns"]) >= 6
    assert len(first["companion_ns"]) == len(first["samples_ns"]) + 1
    assert not any(file.name.startswith(".real") for file in tmp_path.iterdir())


def test_whole_networks_are_measured_in_fresh_processes_and_another_order_each_round() -> None:
    link = FakeLink()
    order: list[str] = []

    def model(name: str, ms: float) -> Callable[[], bytes]:
        def make() -> bytes:
            order.append(name)
            return json.dumps({"ms": ms, "op": None}).encode()

        return make

    models = {name: model(name, ms) for name, ms in (("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0))}
    profile = DeviceProfile("b", "fake")
    found = measure_networks(
        models,
        companion=b'{"ms": 2.0, "op": null}',
        profile=profile,
        start=link.start,
        rng=random.Random(0),
        rounds=3,
    )
    assert {name: measured.ms for name, measured in found.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert link.starts == 3
    rounds = [order[n : n + 4] for n in (0, 4, 8)]
    assert all(sorted(names) == ["a", "b", "c", "d"] for names in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
