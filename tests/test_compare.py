"""Comparing runs: numbers by brute force, refusals that say why, one page that is whole."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fakes import Page, loads_nothing, other_board, run_of_one, run_of_two_devices, verified
from search_fakes import by_size, dominates, less_sure_when_large, table

from hwnas.errors import UsageError
from hwnas.report.compare_page import comparison_document, comparison_html, over_seeds
from hwnas.report.comparison import Comparison, compare
from hwnas.search import pareto


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    run_of_one(folder / "auto", accuracy=less_sure_when_large, trials=80, sampler="auto")
    run_of_one(folder / "random", accuracy=less_sure_when_large, trials=60, sampler="random", seed=3)
    return [folder / "auto", folder / "random"]


@pytest.fixture(scope="module")
def known(runs: list[Path]) -> Comparison:
    return compare(runs)


def points_of(networks: Any) -> list[tuple[float, float]]:
    return [(one.latency.value, -one.accuracy.lower_bound()) for one in networks]


def as_good(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] <= other[1]


def test_hypervolumes_are_those_of_all_networks_evaluated_in_one_box(known: Comparison) -> None:
    box = known.box
    assert box is not None
    corner = (box.reference[0], -box.reference[1])
    area = (box.reference[0] - box.best[0]) * (box.best[1] - box.reference[1])
    for one in known.runs:
        points = points_of(one.result.trials)
        assert one.progress.final == pytest.approx(pareto.hypervolume(points, corner) / area)
        assert one.progress.after(60) == pytest.approx(pareto.hypervolume(points[:60], corner) / area)
    assert known.common_evaluations == 60
    assert known.lowest == min(one.progress.final for one in known.runs)


def test_coverage_is_what_comparing_each_pair_says(known: Comparison) -> None:
    fronts = [points_of(one.result.front) for one in known.runs]
    for a, one in enumerate(fronts):
        for b, other in enumerate(fronts):
            covered = [any(as_good(p, q) for p in one) for q in other]
            assert known.coverage[a][b] == pytest.approx(sum(covered) / len(covered))
    assert known.coverage[0][0] == 1
    assert known.coverage[0][1] != known.coverage[1][0]  # else the axes could be mixed up


def test_the_front_of_all_holds_of_each_run_what_no_other_beats(known: Comparison) -> None:
    fronts = [points_of(one.result.front) for one in known.runs]
    every = [point for front in fronts for point in front]
    for one, front in zip(known.runs, fronts, strict=True):
        assert one.on_joint_front == sum(not any(dominates(q, p) for q in every) for p in front)


def test_networks_are_told_apart_by_whose_front_they_are_on(known: Comparison) -> None:
    first, second = ({one.id for one in run.result.front} for run in known.runs)
    assert set(known.common) == first & second
    assert set(known.runs[0].only_here) == first - second
    assert set(known.runs[1].only_here) == second - first


def test_only_settings_that_differ_are_listed(known: Comparison) -> None:
    assert dict(known.settings) == {
        "sampler": ("auto", "random"),
        "seed": ("0", "3"),
        "candidates": ("80 of 80", "60 of 60"),
    }
    assert known.notes == ()


def test_a_copy_of_a_run_is_as_good_as_the_run(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "copy")
    known = compare([runs[0], tmp_path / "copy"])
    assert known.coverage == ((1.0, 1.0), (1.0, 1.0))
    assert known.runs[0].progress == known.runs[1].progress
    assert len(known.common) == len(known.runs[0].result.front)
    assert known.runs[0].only_here == () and known.settings == {}
    assert "asked the same" in Page(comparison_html(known)).text


def test_runs_of_several_seeds_are_summed_up_as_mean_and_deviation(known: Comparison, tmp_path: Path) -> None:
    assert over_seeds(known) == ""  # their samplers differ, too
    paths = [tmp_path / str(seed) for seed in range(3)]
    for seed, path in enumerate(paths):
        run_of_one(path, seed=seed, trials=30)
    seeds = compare(paths)
    finals = np.array([one.progress.final for one in seeds.runs])
    best = np.array([one.result.front[0].accuracy.value for one in seeds.runs])
    said = over_seeds(seeds)
    assert f"Over 3 seeds the hypervolume is {finals.mean():.4f} ± {finals.std(ddof=1):.2g}" in said
    assert f"the best accuracy {best.mean():#.4g} ± {best.std(ddof=1):.2g} % estimated" in said
    assert said in Page(comparison_html(seeds)).text


def test_runs_of_one_name_are_called_by_their_whole_path(runs: list[Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "auto")
    names = [one.name for one in compare([runs[0], tmp_path / "auto"]).runs]
    assert names == [str(runs[0]), str(tmp_path / "auto")]


def test_other_bounds_are_compared_and_said(runs: list[Path], tmp_path: Path) -> None:
    run_of_one(tmp_path / "wide", accuracy=less_sure_when_large, budget_ms=1.1)
    known = compare([runs[0], tmp_path / "wide"])
    assert known.notes == (
        "The bounds differ, and a wider one has more room: 0.9 ms on toy in auto, 1.1 ms on toy in wide.",
    )
    assert known.box is not None and known.box.reference[0] > 1.1
    assert known.settings["within"] == ("0.9 ms on toy", "1.1 ms on toy")


def test_runs_of_three_objectives_are_compared_in_all_of_them(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        run_of_two_devices(tmp_path / name, seed=seed)
    known = compare([tmp_path / "one", tmp_path / "two"])
    assert known.box is not None and len(known.box.reference) == 4
    text = comparison_html(known)
    assert sum("against" in label for label in Page(text).charts()) == 3
    assert comparison_document(known)["objectives"] == [
        "latency",
        "latency dear-nodes",
        "params",
        "accuracy",
    ]


def test_a_run_without_any_network_yet_is_compared_too(runs: list[Path], tmp_path: Path) -> None:
    run_of_one(tmp_path / "empty", accuracy=less_sure_when_large, stop=lambda: True)
    known = compare([runs[0], tmp_path / "empty"])
    assert known.runs[1].progress.final == 0
    assert known.coverage == ((1.0, None), (0.0, None))
    assert Page(comparison_html(known)).charts()
    json.dumps(comparison_document(known), allow_nan=False)


# --- what is refused -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_questions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    changed = dataclasses.replace(table(), notes=("built again",))
    run_of_one(folder / "device", accuracy=less_sure_when_large, device=other_board(), budget_ms=1.7)
    run_of_one(folder / "table", accuracy=less_sure_when_large, device=changed)
    run_of_one(folder / "estimator", accuracy=by_size)
    run_of_one(folder / "objectives", accuracy=less_sure_when_large, objectives=["params"])
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("device", "differ in their device: toy in auto, dear-nodes in device"),
        ("table", "differ in their latency table: "),
        ("estimator", "differ in their accuracy estimator: "),
    ],
)
def test_runs_whose_numbers_mean_other_things_are_refused_unless_that_is_wanted(
    runs: list[Path], other_questions: dict[str, Path], what: str, said: str
) -> None:
    pair = [runs[0], other_questions[what]]
    with pytest.raises(UsageError, match=said) as refused:
        compare(pair)
    assert "--allow-mismatch" in str(refused.value)
    known = compare(pair, allow_mismatch=True)
    assert any(said in note and "do not mean the same" in note for note in known.notes)
    assert said in " ".join(Page(comparison_html(known)).text.split())


def test_runs_of_other_objectives_are_never_compared(
    runs: list[Path], other_questions: dict[str, Path]
) -> None:
    with pytest.raises(UsageError, match="must minimise the same; latency in auto, latency, params in obj"):
        compare([runs[0], other_questions["objectives"]], allow_mismatch=True)


def test_one_run_is_not_compared_with_itself(runs: list[Path]) -> None:
    with pytest.raises(UsageError, match="two runs or more, got 1"):
        compare(runs[:1])
    with pytest.raises(UsageError, match="which are one"):
        compare([runs[0], runs[0] / ".." / "auto"])


# --- verified fronts -------------------------------------------------------------------------


def test_fronts_are_measured_ones_only_where_all_runs_are_verified(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    results = [run_of_one(path, seed=seed) for seed, path in enumerate(paths)]
    ids = verified(results[0], times=0.9)
    half = compare(paths)
    assert [one.id for one in half.runs[0].result.front] == [one.id for one in results[0].front]
    assert "not all are verified: what was measured of one is left out" in half.notes[0]
    verified(results[1], times=2.0)
    both = compare(paths)
    assert [one.id for one in both.runs[0].result.front] == ids
    assert "compared by their measured latencies" in both.notes[0]
    assert both.coverage[1][0] == 0  # twice as slow as predicted: nothing of the other front is reached
    assert "latency ms, measured" in comparison_html(both)


# --- page, document, command -----------------------------------------------------------------


def test_the_page_is_whole_and_its_links_lead_to_its_sections(known: Comparison) -> None:
    text = comparison_html(known)
    assert loads_nothing(text)
    page = Page(text)
    wanted = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]
    assert wanted == ids == ["#fronts", "#hypervolume", "#coverage", "#networks", "#settings"]
    for one in known.runs:
        assert f"{one.progress.final:.4f}" in page.text
        for candidate in one.result.front:
            assert candidate.id in page.text


def test_names_of_folders_are_escaped(runs: list[Path], tmp_path: Path) -> None:
    nasty = "<b>&"
    shutil.copytree(runs[0], tmp_path / nasty)
    page = Page(comparison_html(compare([runs[1], tmp_path / nasty])))
    assert "b" not in {tag for tag, _ in page.tags} and nasty in page.text


def test_the_command_prints_tables_and_writes_one_page(
    hwnas: Callable[..., Any], runs: list[Path], tmp_path: Path, known: Comparison
) -> None:
    answer = hwnas("compare", *map(str, runs), "--out", str(tmp_path / "both.html"))
    assert answer.code == 0
    for wanted in ("auto", "random", "sampler", f"{known.lowest:.4f}", "on all fronts"):
        assert wanted in answer.out
    assert f"{100 * (known.coverage[0][1] or 0):.0f} %" in answer.out
    assert answer.err == f"Comparison: {tmp_path / 'both.html'}\n"
    assert (tmp_path / "both.html").read_text() == comparison_html(known)


def test_the_document_of_the_command_is_json_with_every_number(
    hwnas: Callable[..., Any], runs: list[Path], known: Comparison
) -> None:
    answer = hwnas("compare", *map(str, runs), "--json")
    assert (answer.code, answer.err) == (0, "")
    said = json.loads(answer.out)
    assert said == json.loads(json.dumps(comparison_document(known)))
    assert said["schema"] == 1
    assert np.array(said["coverage"]).shape == (2, 2)
    assert [one["hypervolume"] for one in said["runs"]] == [one.progress.final for one in known.runs]


@pytest.mark.parametrize(
    ("others", "message"),
    [((), "a comparison needs two runs or more, got 1"), (("nothing",), "no run at 'nothing'")],
)
def test_a_mistake_is_one_clear_line(
    hwnas: Callable[..., Any], runs: list[Path], others: tuple[str, ...], message: str
) -> None:
    answer = hwnas("compare", str(runs[0]), *others)
    assert answer.code == 2 and message in answer.err and answer.err.count("\n") == 1
