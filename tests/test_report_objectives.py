"""The report of a run of several devices and objectives: each has its axis, its column, its bars."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from report_fakes import (
    Page,
    board_with_tails,
    loads_nothing,
    marks,
    other_board,
    run_of_one,
    run_of_two_devices,
)
from search_fakes import by_size, dominates, small_space, table

from hwnas.predictors.latency import DeviceProfile
from hwnas.report import write_report
from hwnas.report.dimensions import dimensions, spread_over, within
from hwnas.report.fronts import Front, Mark
from hwnas.report.model import MOST_BARS
from hwnas.report.page import report_html
from hwnas.report.published import PublishedNetwork, published_networks
from hwnas.search import SearchResult, search
from hwnas.space.presets import presets


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return run_of_two_devices()


@pytest.fixture(scope="module")
def tables() -> dict[str, object]:
    return {"toy": table(), "dear-nodes": other_board()}


@pytest.fixture(scope="module")
def text(result: SearchResult, tables: dict[str, object]) -> str:
    return report_html(result, tables=tables)  # type: ignore[arg-type]


def test_every_objective_has_a_chart_of_its_own_and_there_is_one_of_all(text: str) -> None:
    against = [label.partition(";")[0] for label in Page(text).charts() if "against" in label]
    assert against == [
        "accuracy, estimated (%) against latency on toy, estimated (ms)",
        "accuracy, estimated (%) against latency on dear-nodes, estimated (ms)",
        "accuracy, estimated (%) against parameters (M)",
    ]
    assert sum("over all objectives" in label for label in Page(text).charts()) == 1
    assert "on these devices" in Page(text).text
    assert loads_nothing(text)


def test_every_bound_is_said_and_drawn_where_it_belongs(result: SearchResult, text: str) -> None:
    assert within(result.config) == "0.9 ms on toy, 1.7 ms on dear-nodes, 1 MB memory"
    page = Page(text)
    assert f"Vision transformers within {within(result.config)}" in page.text
    drawn = {
        name: [(one["x"], one["words"]) for rules in marks(spec, "rule") for one in rules if "words" in one]
        for name, spec in page.specs().items()
        if name.startswith("front-")
    }
    assert drawn == {
        "front-latency": [(0.9, "budget 0.9 ms")],
        "front-latency-dear-nodes": [(1.7, "budget 1.7 ms")],
        "front-params": [],
    }


def test_a_network_of_the_front_has_all_its_numbers_in_one_row(result: SearchResult, text: str) -> None:
    section = text[text.index('<section id="networks"') :]
    rows = re.findall(r"<tr data-rank[^>]*>(<td>\d.*?)</tr>", section)
    for candidate, row in zip(result.front, rows, strict=True):
        for value in (
            candidate.latency.value,
            candidate.also["latency dear-nodes"].value,
            candidate.also["memory"].value / 1e6,
        ):
            assert f"<td>{value:#.4g}</td>" in row
        assert f"<td>{candidate.params / 1e6:.2f}</td>" in row


def test_bars_sum_up_to_the_latency_on_their_own_device(result: SearchResult, text: str) -> None:
    for device in ("toy", "dear-nodes"):
        [parts] = marks(Page(text).specs()[f"ops-{device}"], "bar")
        ends = {one["rank"]: one["to"] for one in parts}  # the last piece's end
        assert list(ends) == list(range(1, len(result.front) + 1))  # few enough for all to be shown
        for rank, candidate in enumerate(result.front, start=1):
            known = candidate.latency if device == "toy" else candidate.also[f"latency {device}"]
            assert ends[rank] == pytest.approx(known.value, rel=1e-3)


def test_the_line_of_a_chart_joins_what_is_not_beaten_in_that_chart_alone(result: SearchResult) -> None:
    marks = [Mark(one.params, one.accuracy.value, one.id) for one in result.front]
    points = [(mark.x, -mark.accuracy) for mark in marks]
    unbeaten = [m for m, p in zip(marks, points, strict=True) if not any(dominates(q, p) for q in points)]
    chain = Front("front", marks).chain
    assert sorted(mark.label for mark in chain) == sorted(mark.label for mark in unbeaten)
    assert [mark.x for mark in chain] == sorted(mark.x for mark in chain)
    assert 0 < len(chain) < len(marks)  # some are on the front for another objective


def test_in_the_chart_of_all_objectives_the_best_of_each_is_at_the_top(
    result: SearchResult, text: str
) -> None:
    [*_, threads] = marks(Page(text).specs()["objectives"], "line")
    heights = [
        [one["height"] for one in threads if one["rank"] == rank + 1] for rank in range(len(result.front))
    ]
    columns = [
        [-one.accuracy.value for one in result.front],
        [one.latency.value for one in result.front],
        [one.also["latency dear-nodes"].value for one in result.front],
        [float(one.params) for one in result.front],
    ]
    for axis, numbers in enumerate(columns):
        drawn = [line[axis] for line in heights]
        assert numbers[drawn.index(max(drawn))] == pytest.approx(min(numbers), rel=1e-3)
        assert numbers[drawn.index(min(drawn))] == pytest.approx(max(numbers), rel=1e-3)
        assert (max(drawn), min(drawn)) == (1, 0)


def test_a_device_whose_table_is_gone_is_named_and_the_others_are_shown(result: SearchResult) -> None:
    text = report_html(result, tables={"dear-nodes": other_board()})
    assert "this run used for toy is not at hand" in Page(text).text
    assert [name for name in Page(text).specs() if name.startswith("ops")] == ["ops-dear-nodes"]


def test_the_hypervolume_is_of_all_objectives_and_names_its_reference(text: str) -> None:
    said = Page(text).text
    found = re.search(r"to the reference point \((.*?)\)", said)
    assert found
    units = [part.split()[-1] for part in found.group(1).split("; ")]
    assert units == ["ms", "ms", "M", "%"]
    assert "counted by points spread evenly over it" in said


def test_published_networks_are_predicted_on_every_device(
    result: SearchResult, tables: dict[str, object]
) -> None:
    found = published_networks(result, tables)  # type: ignore[arg-type]
    assert len(found) == len(presets())
    for one in found:
        arch = presets()[one.name].arch
        assert one.latency.value == pytest.approx(table().predict(arch).value)
        assert one.also["latency dear-nodes"].value == pytest.approx(other_board().predict(arch).value)


def test_a_published_network_is_beaten_only_by_one_that_is_as_good_in_every_objective(
    result: SearchResult,
) -> None:
    from hwnas.report.model import _better

    twin = result.front[2]
    network = PublishedNetwork(
        "twin", "none", twin.latency, twin.accuracy.value, twin.params, twin.macs, twin.also
    )
    found = dimensions(result.config)
    assert _better(result, network, found) == "#3"
    assert _better(result, dataclasses.replace(network, params=1), found) == ""
    assert _better(result, dataclasses.replace(network, macs=1), found) == "#3"  # nobody minimises MACs


def test_what_is_said_of_a_published_network_is_what_a_search_says_of_a_candidate() -> None:
    """Tail and memory are computed from ops there, and in arrays over the space here."""
    from hwnas.report.published import _predictor
    from hwnas.space.ops import lower

    board = board_with_tails()
    result = run_of_one(device=board, budget_on="p95", budget_ms=1.2, objectives=["memory"])
    wanted = {one.name: one for one in dimensions(result.config)}
    assert list(wanted) == ["p95", "memory", "latency"]
    for name in ("p95", "memory"):
        predict = _predictor(wanted[name], {"tailed": board})
        for candidate in result.front[:5]:
            said, known = predict(lower(candidate.arch)), candidate.also[name]
            assert (said.value, said.std) == pytest.approx((known.value, known.std))
            assert (said.low is None) == (known.low is None)


def test_a_run_on_the_tail_shows_the_tail_the_latency_and_what_both_are() -> None:
    result = run_of_one(device=board_with_tails(), budget_on="p95", budget_ms=1.2)
    text = report_html(result, tables={"tailed": board_with_tails()})
    page = Page(text)
    assert "accuracy, estimated (%) against p95 latency, measured (ms)" in page.charts()[0]
    for column in ("p95 latency ms, measured", "latency ms, measured"):
        assert f"<th>{column}</th>" in text
    best = result.front[0]
    assert f"<td>{best.also['p95'].value:#.4g}</td>" in text
    assert f"<td>{best.latency.value:#.4g}</td>" in text
    assert "a note of tailed" in page.text


def test_of_many_networks_some_have_their_ops_listed_and_the_report_says_how_many(
    result: SearchResult, tables: dict[str, object]
) -> None:
    many = dataclasses.replace(result, front=result.front * 30)
    text = report_html(many, tables=tables)  # type: ignore[arg-type]
    assert text.count("<details><summary>#") == MOST_BARS // 2
    assert f"Shown: {MOST_BARS // 2} of {len(many.front)}" in Page(text).text


def test_what_is_spread_over_many_has_both_ends_and_even_steps() -> None:
    assert spread_over(3, 5) == [0, 1, 2]
    assert spread_over(101, 5) == [0, 25, 50, 75, 100]


def test_the_report_of_a_run_finds_the_tables_of_all_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path))
    table().save(tmp_path / "toy.yaml")
    other_board().save(tmp_path / "dear-nodes.yaml")
    run_of_two_devices(tmp_path / "run", trials=20)
    text = write_report(tmp_path / "run").read_text()
    assert "not at hand" not in text
    assert re.search(r"ms on dear-nodes, estimated", text)
    changed = dataclasses.replace(other_board(), name="dear-nodes", notes=("changed since",))
    changed.save(tmp_path / "dear-nodes.yaml")
    assert "this run used for dear-nodes is not at hand" in write_report(tmp_path / "run").read_text()


def test_a_report_says_what_of_a_devices_profile_is_inferred_and_a_batch_budget_as_throughput() -> None:
    profile = DeviceProfile(
        "A GPU", "torch", batch=64, inferred={"precision": "the paper names none; fp32 is usual."}
    )
    board = dataclasses.replace(table(), profile=profile)
    result = search(small_space(), device=board, budget_ms=0.9, accuracy=by_size, trials=20, sampler="random")
    text = Page(report_html(result, tables={board.name: board})).text
    assert "precision unknown, inferred: fp32" in text
    assert "precision is not stated by the source, inferred: the paper names none" in text
    assert f"{64_000 / 0.9:,.0f} images/s in runs of 64 images" in text
    one_image = dataclasses.replace(board, profile=dataclasses.replace(profile, batch=1))
    assert "images/s" not in Page(report_html(result, tables={board.name: one_image})).text
