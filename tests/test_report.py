"""The report: one file that needs nothing else, says what it shows, and can't be broken by a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_fakes import Page, loads_nothing
from search_fakes import by_size, less_sure_when_large, small_space, table

from hwnas.errors import UsageError
from hwnas.predictors.latency import LatencyTable
from hwnas.report import write_report
from hwnas.report.axes import NARROW, frame, ticks
from hwnas.report.chart import Front, Mark, front_chart
from hwnas.report.html import report_html
from hwnas.search import SearchResult, load_run, search
from hwnas.search.config import Target
from hwnas.space import SearchSpace
from hwnas.space.ops import lower


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
    assert sum(tag == "circle" for tag, _ in page.tags) == 2 * len(
        result.front
    )  # a chart for wide screens, one for narrow ones


def test_every_latency_says_that_it_is_estimated(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    headings = re.findall(r"latency ms, \w+|ms, \w+|latency, \w+", page.text)
    assert len(headings) > 3
    assert all(heading.endswith("estimated") for heading in headings)
    assert len(re.findall(r"\d ms estimated", page.text)) >= len(result.front)


def test_names_from_outside_are_escaped(result: SearchResult) -> None:
    import dataclasses

    nasty = "<script>alert('&')</script>"
    config = dataclasses.replace(result.config, accuracy=nasty, targets=(Target(nasty, 0.9),))
    page = Page(report_html(dataclasses.replace(result, config=config), tables={}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert nasty in page.text


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
    marks = re.findall(r'class="preset"[^>]*><title>([^<]*)', text)
    assert any(re.match(r"uniform-t: [\d.]+ ms estimated, accuracy 66.00 published", mark) for mark in marks)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (8.7, 20.2, [10, 12, 14, 16, 18, 20]),
        (0.91, 1.29, [0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_no_number_of_an_axis_reaches_beyond_the_chart() -> None:
    x, y = NARROW.horizontal(1, 1000, log=True), NARROW.vertical(0, 1)
    drawn = frame(NARROW, x, y, x_title="", y_title="")
    found = re.findall(rf'<text x="([\d.]+)" y="{NARROW.bottom + 17}" text-anchor="(\w+)">(\w+)<', drawn)
    assert [text for _, _, text in found] == ["1", "10", "100", "1000"]
    for at, anchor, text in found:
        assert float(at) + (3.5 if anchor == "middle" else 0) * len(text) <= NARROW.width


def test_a_chart_of_one_network_does_not_divide_by_nothing() -> None:
    mark = Mark(10.0, 70.0, "a: 10 ms")
    chart = front_chart(
        candidates=[(10.0, 70.0)],
        fronts=[Front("a", [mark])],
        published=[mark],
        bounds=[(10.0, "budget 10 ms")],
        x_title="latency",
        accuracy_title="accuracy",
    )
    assert "nan" not in chart and [tag for tag, _ in Page(chart).tags].count("svg") == 2


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
        (("--device", "rpi4", "--budget", "20"), 2, "without a unit"),
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


def test_a_bar_s_pieces_sum_up_to_the_predicted_latency_on_the_scale_of_the_slowest(
    result: SearchResult,
) -> None:
    text = report_html(result, tables={"toy": table()})
    most_ms = max(candidate.latency.value for candidate in result.front)
    bars = re.findall(r'<span class="bar" aria-hidden="true">(.*?)</span>', text)
    assert len(bars) == len(result.front)
    for candidate, bar in zip(result.front, bars, strict=True):
        widths = [float(width) for width in re.findall(r"width:([\d.]+)%", bar)]
        assert sum(widths) / 100 * most_ms == pytest.approx(candidate.latency.value, rel=1e-3)


def test_the_links_of_the_page_lead_to_its_sections(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    wanted = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = [f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes]
    assert wanted == ids and len(ids) == 6


def test_every_chart_says_what_it_shows_to_those_who_do_not_see_it(result: SearchResult) -> None:
    page = Page(report_html(result, tables={"toy": table()}))
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 4
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
    from hwnas.report.style import style_sheet

    block = re.findall(r":root \{(.*?)\}", style_sheet(), re.DOTALL)[theme]
    colours = dict(re.findall(r"--(\w+): (#\w+)", block))

    def contrast(one: str, other: str) -> float:
        dark, light = sorted((luminance(colours[one]), luminance(colours[other])))
        return (light + 0.05) / (dark + 0.05)

    for ground in ("page", "card"):
        for text in ("ink", "soft", "accent"):
            assert contrast(text, ground) >= 4.5, f"{text} on {ground}"
        for line in ("c1", "c2", "c3", "c4"):
            assert contrast(line, ground) >= 3, f"{line} on {ground}"
