"""The report: one file that needs nothing else, says what it shows, and can't be broken by a name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from report_fakes import Page, front_points, loads_nothing, marks
from search_fakes import by_size, less_sure_when_large, small_space, table

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.latency import LatencyTable
from hwnas.report import write_report
from hwnas.report.charts import DARK_THEME, KINDS, SERIES, front_chart
from hwnas.report.drawing import HEIGHT_PX, drawn
from hwnas.report.fronts import Front, FrontView, Mark
from hwnas.report.model import report_model
from hwnas.report.page import report_html
from hwnas.report.published import Lead, PublishedNetwork, lead_over
from hwnas.search import SearchResult, load_run, search
from hwnas.search.config import Target
from hwnas.space import SearchSpace
from hwnas.space.ops import lower
from hwnas.space.outline import outline
from hwnas.space.presets import preset


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(
        small_space(),
        device=table(),
        budget_ms=0.9,
        accuracy=less_sure_when_large,
        trials=80,
        out=tmp_path_factory.mktemp("runs") / "a & b",
    )


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(result: SearchResult) -> None:
    text = report_html(result, tables={"toy": table()})
    page = Page(text)
    assert loads_nothing(text)
    assert ("meta", {"name": "viewport", "content": "width=device-width,initial-scale=1"}) in page.tags


def test_every_network_of_the_front_is_there_with_its_numbers_and_its_ops(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    for candidate in result.front:
        assert candidate.id in page.text
        assert f"{candidate.latency.value:#.4g}" in page.text
        assert f"{candidate.accuracy.value:#.4g} ± {candidate.accuracy.std:.2g}" in page.text
        for op in lower(candidate.arch):
            assert op.key in page.text
    drawn = front_points(page.specs()["front"])
    assert sorted((one["x"], one["y"]) for one in drawn) == sorted(
        (one.latency.value, one.accuracy.value) for one in result.front
    )


def test_every_latency_says_that_it_is_estimated(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    headings = re.findall(r"latency ms, \w+|ms, \w+|latency, \w+", page.text)
    assert len(headings) > 3
    assert all(heading.endswith("estimated") for heading in headings)
    assert len(re.findall(r"\d ms estimated", page.text)) >= len(result.front)


def test_names_from_outside_are_escaped(result: SearchResult) -> None:
    import dataclasses

    nasty = "</script><script>alert('&')</script>"
    usual = len(Page(report_html(result, tables={})).scripts)
    config = dataclasses.replace(result.config, accuracy=nasty, targets=(Target(nasty, 0.9),))
    page = Page(report_html(dataclasses.replace(result, config=config), tables={}))
    assert len(page.scripts) == usual == 3  # the charts, Vega, the page's own
    assert not any("alert(" in script for script in page.scripts[1:])
    assert nasty in page.text
    json.loads(page.scripts[0])


def test_without_the_table_of_the_run_it_says_so_and_shows_the_rest(result: SearchResult) -> None:
    page = Page(report_html(result, tables={}))
    assert "no latencies per op" in page.text
    assert result.front[0].id in page.text


def test_a_run_without_any_network_yet_has_a_report_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "device": table(),
        "budget_ms": 0.9,
        "accuracy": by_size,
        "out": tmp_path / "r",
    }
    empty = search(small_space(), trials=5, stop=lambda: True, **options)
    assert empty.front == []
    assert "0 of 5 candidates" in Page(report_html(empty, tables={"toy": table()})).text


def test_a_result_in_memory_has_no_folder_for_a_report() -> None:
    kept = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=2)
    with pytest.raises(UsageError, match="give the search an `out`"):
        write_report(kept)


def test_published_networks_stand_beside_the_front_by_name(tmp_path: Path) -> None:
    run = search(SearchSpace.default(), device="rpi4", budget_ms=40.0, trials=20, out=tmp_path / "r")
    text = report_html(load_run(run.path or ""), tables={"rpi4": LatencyTable.load("rpi4")})
    labels = [one["label"] for points in marks(Page(text).specs()["front"], "point") for one in points
              if "name" in one]  # fmt: skip
    assert any(re.match(r"uniform-t: [\d.]+ ms estimated, accuracy 66.00 published", one) for one in labels)


def test_a_chart_of_one_network_has_axes_of_some_length() -> None:
    mark = Mark(10.0, 70.0, "a: 10 ms", name="a")
    view = FrontView(
        candidates=[(10.0, 70.0)],
        fronts=[Front("a", [mark])],
        published=[mark],
        bounds=[(10.0, "budget 10 ms")],
        x_title="latency",
        accuracy_title="accuracy",
    )
    spec = front_chart(view).spec
    assert "NaN" not in json.dumps(spec)
    for layer in spec["layer"]:
        for axis in ("x", "y"):
            low, high = layer["encoding"].get(axis, {}).get("scale", {}).get("domain", (0, 1))
            assert low < high


def test_names_do_not_lie_on_each_other_and_a_narrow_screen_has_fewer() -> None:
    near = [Mark(10 + 0.05 * index, 70 + 0.05 * index, "", name=f"#{index}") for index in range(12)]
    ends = [Mark(0.0, 60.0, "", name="first"), Mark(20.0, 80.0, "", name="last")]
    view = FrontView(fronts=[Front("a", [*near, *ends])], x_title="x", accuracy_title="y")
    names = [name for names in marks(front_chart(view).spec, "text") for name in names]
    wide, narrow = ({one["name"] for one in names if one[where]} for where in ("in_wide", "in_narrow"))
    assert {"first", "last"} <= narrow <= wide
    assert len(wide) < 14


def test_the_conclusion_names_the_best_network_and_its_lead_with_what_is_sure_of_it(tmp_path: Path) -> None:
    run = search(SearchSpace.default(), device="rpi4", budget_ms=20.0, trials=60, seed=1, out=tmp_path / "r")
    tables = {"rpi4": LatencyTable.load("rpi4")}
    said = report_model(run, tables=tables).conclusion
    best = run.front[0]
    assert (
        outline(best.arch) in said[0] and f"{best.accuracy.value:#.4g} ± {best.accuracy.std:.2g} %" in said[0]
    )
    lead = best.accuracy.value - 66.0  # uniform-t is the only published network within 20 ms
    sure = "within" if abs(lead) <= 2 * best.accuracy.std else "more than"
    assert f"{lead:+.2g} points over uniform-t" in said[1] and f"66.00 published), {sure} two dev" in said[1]
    assert said[-1].endswith("--verify")
    assert len(said) < 8


def test_a_lead_says_on_which_side_of_two_deviations_it_is() -> None:
    preset = PublishedNetwork("p", "f", Estimate(9.0), 66.0, 1, 1, {})
    told = {std: Lead(preset, 1.8, std).sentence(unit="%", how="published") for std in (0.0, 0.8, 0.9, 1.0)}
    assert all(text.startswith("+1.8 points over p, ") for text in told.values())
    assert "gives no deviation" in told[0.0]
    assert "more than two deviations (±1.6)" in told[0.8]
    assert "within two deviations (±1.8)" in told[0.9] and "not certain" in told[1.0]
    assert Lead(preset, -0.5, 1.0).sentence(unit="%", how="published").startswith("-0.5 points")


def test_only_published_networks_within_all_limits_are_led_over(result: SearchResult) -> None:
    fast, slow = (PublishedNetwork(str(ms), "f", Estimate(ms), 40.0 + ms, 1, 1, {}) for ms in (0.8, 1.0))
    lead = lead_over(result, [slow, fast])
    assert lead is not None and lead.preset is fast  # the budget is 0.9 ms
    assert lead.difference == pytest.approx(result.front[0].accuracy.value - 40.8)
    assert lead_over(result, [slow]) is None


def test_a_network_is_described_in_one_line_and_picked_with_the_name_for_the_next_command(
    result: SearchResult,
) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    rows = [attributes for tag, attributes in page.tags if tag == "tr" and "data-rank" in attributes]
    assert [row["data-rank"] for row in rows] == [str(rank + 1) for rank in range(len(result.front))]
    for rank, (row, candidate) in enumerate(zip(rows, result.front, strict=True), start=1):
        assert shlex.split(row["data-name"] or "") == [f"{result.path}#{rank}"]
        assert outline(candidate.arch) in page.text
    assert " ".join(page.text.split()).count(f"hwnas train {rows[0]['data-name']} --data FOLDER") == 1


# --- the command line ------------------------------------------------------------------------


def test_the_command_prints_a_table_and_what_to_run_next_and_writes_the_report(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = hwnas("search", "--device", "rpi4", "--budget", "20ms", "--trials", "60", "--seed", "1")
    assert (answer.code, answer.err) == (0, "")
    run = Path("runs/rpi4-20ms-1")
    assert "latency ms, estimated" in answer.out
    for wanted in (f"Report: {run}/report.html", f"hwnas describe '{run}#1' --device rpi4"):
        assert wanted in answer.out
    first = (run / "report.html").read_text()
    (run / "report.html").unlink()
    again = hwnas("report", str(run))
    assert (again.code, again.out.strip()) == (0, str(run / "report.html"))
    assert (run / "report.html").read_text() == first
    described = hwnas("describe", f"{run}#1", "--device", "rpi4", "--json")
    assert described.code == 0
    assert load_run(run).front[0].id in described.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--device", "rp4", "--budget", "20ms"), 2, "Did you mean 'rpi4'?"),
        (("--device", "rpi4", "--budget", "20"), 2, "has no unit"),
        (("--device", "rpi4"), 2, "a search needs --budget"),
        (("--budget", "20ms"), 2, "a search needs --device"),
        (("--device", "rpi4", "--budget", "100us"), 3, "the fastest possible takes"),
        (("--device", "rpi4", "--budget", "20ms", "--trials", "0"), 2, "--trials must be at least 1"),
        (("--device", "rpi4", "--budget", "20ms", "--seed", "-1"), 2, "--seed must be at least 0"),
        (("--device", "rpi4", "--budget", "20ms", "--space", "nothing.yaml"), 2, "no space file"),
        (("--device", "rpi4", "--budget", "20ms", "--accuracy", "nothing:f"), 2, "nothing"),
        (("--resume", "nothing"), 2, "no run at 'nothing'"),
        (("--resume", "nothing", "--out", "x"), 2, "leave --out out"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_line_and_leaves_nothing_behind(
    hwnas: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = hwnas("search", *arguments)
    assert answer.code == code
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == []


# --- what it looks like ----------------------------------------------------------------------


def test_a_bar_s_pieces_follow_each_other_and_sum_up_to_the_predicted_latency(
    result: SearchResult,
) -> None:
    spec = Page(report_html(result, tables={"toy": table()})).specs()["ops"]
    [parts] = marks(spec, "bar")
    for rank, candidate in enumerate(result.front, start=1):
        own = [one for one in parts if one["rank"] == rank]
        assert [one["from"] for one in own[1:]] == [one["to"] for one in own[:-1]] and own[0]["from"] == 0
        assert [one["kind"] for one in own[: len(lower(candidate.arch))]] == [
            op.kind for op in lower(candidate.arch)
        ]
        assert own[-1]["to"] == pytest.approx(candidate.latency.value, rel=1e-3)


def test_the_links_of_the_page_lead_to_its_sections(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    wanted = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = [f"#{attributes['id']}" for tag, attributes in page.tags if tag == "section"]
    assert wanted == ids and len(ids) == 6


def test_every_chart_says_what_it_shows_to_those_who_do_not_see_it(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    charts = [attributes for _, attributes in page.tags if attributes.get("class") == "chart"]
    assert [chart["id"] for chart in charts] == [f"chart-{name}" for name in page.specs()]
    assert len(charts) == 4  # front, hypervolume, choices, ops
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 20 for chart in charts)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb or #rgb, WCAG 2.2."""
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_the_page_as_wcag_asks(theme: int) -> None:
    sheet = (files("hwnas.report") / "templates" / "page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[theme]
    colours = dict(re.findall(r"--(\w+): (#\w+)", block))

    def contrast(one: str, other: str) -> float:
        dark, light = sorted((luminance(colours[one]), luminance(colours[other])))
        return (light + 0.05) / (dark + 0.05)

    for ground in ("page", "card"):
        for text in ("ink", "soft", "accent"):
            assert contrast(text, ground) >= 4.5, f"{text} on {ground}"
        for light in SERIES[:4]:
            colours["line"] = DARK_THEME.get(light, light) if theme else light
            assert contrast("line", ground) >= 3, f"{colours['line']} on {ground}"


def test_a_network_is_drawn_with_a_bar_for_each_block_as_high_as_its_stage_is_wide() -> None:
    arch = preset("uniform-t")
    bars = drawn(arch)
    assert len(bars) == sum(stage.depth for stage in arch.stages)
    heights = [bar.height for bar in bars]
    widths = [stage.width for stage in arch.stages for _ in stage.blocks]
    assert heights == [round(HEIGHT_PX * width / max(widths)) for width in widths]
    assert all(bar.y + bar.height == HEIGHT_PX for bar in bars), "all stand on one line"
    assert [bar.x for bar in bars] == sorted({bar.x for bar in bars}), "none hides another"
    assert {bar.colour for bar in bars} == {KINDS["reuse"]}
