"""The report of a verified run: measured times first, both predictions beside them, disturbance said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_fakes import Page, run_of_one, verified
from search_fakes import table

from hwnas.report.html import report_html
from hwnas.report.plots import plots
from hwnas.search import SearchResult, load_run


def verified_run(path: Path, *, cpu_share: float = 1.0) -> SearchResult:
    verified(run_of_one(path), times=0.9, cpu_share=cpu_share)
    return load_run(path)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return verified_run(tmp_path_factory.mktemp("verified") / "run", cpu_share=0.6)


@pytest.fixture(scope="module")
def text(result: SearchResult) -> str:
    return report_html(result, tables={"toy": table()})


def test_each_network_of_the_front_has_its_measured_and_its_predicted_time(
    result: SearchResult, text: str
) -> None:
    section = text[text.index('<section id="networks"') : text.index('<section id="measured"')]
    for rank, one in enumerate(result.front, start=1):
        assert one.measured is not None
        row = re.search(rf"<tr><td>{rank}</td>(.*?)</tr>", section)
        assert row and row.group(1).startswith(f"<td>{one.measured.value:#.4g}</td>")
        assert f"<td>{one.latency.value:#.4g}</td>" in row.group(1)
    assert "predicted ms, estimated table" in section
    assert "against latency, the front measured (ms)" in Page(text).charts()[0]


def test_a_measured_network_stands_where_the_table_and_where_the_corrected_one_put_it(
    result: SearchResult, text: str
) -> None:
    chart = re.search(r'<svg class="wide-only"[^>]*measured against predicted.*?</svg>', text, re.DOTALL)
    assert chart and result.verification is not None
    count = len(result.verification.measured)
    assert len(re.findall('class="dot s0"', chart.group())) == count
    squares = re.findall(r'class="dot s1" d="M([\d.]+) ([\d.]+)m', chart.group())
    assert len(squares) == count
    line = re.search(r'class="agree" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', chart.group())
    assert line
    left, low, right, high = map(float, line.groups())
    for x, y in squares:  # the corrected table is right here: its marks lie on the line
        assert (float(x) - left) / (right - left) == pytest.approx((float(y) - low) / (high - low), abs=0.003)


def test_times_that_others_disturbed_are_said_to_be_too_long(
    result: SearchResult, text: str, tmp_path: Path
) -> None:
    assert result.verification is not None
    count = len(result.verification.measured)
    assert f"while {count - 1} of {count} networks were measured, which got 60 % of it at worst" in text
    calm = report_html(verified_run(tmp_path / "calm"), tables={"toy": table()})
    assert "Other programs took the CPU" not in calm


def test_a_verified_run_has_a_plot_of_what_was_measured(result: SearchResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (hwnas[plots])")
    names = [file.stem for file in plots(result, tmp_path, tables={"toy": table()})]
    assert names.count("measured") == 2
