"""The report of a verified run: measured times first, both predictions beside them, disturbance said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_fakes import Page, marks, run_of_one, verified
from search_fakes import table

from hwnas.report.model import report_model
from hwnas.report.page import report_html
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
        row = re.search(
            rf'<tr data-rank="{rank}"[^>]*><td>{rank}</td><td class="left arch">'
            r"[^<]*<svg.*?</svg></td>(.*?)</tr>",
            section,
            re.DOTALL,
        )
        assert row and row.group(1).startswith(f"<td>{one.measured.value:#.4g}</td>")
        assert f"<td>{one.latency.value:#.4g}</td>" in row.group(1)
    assert "predicted ms, estimated table" in section
    assert "against latency, the front measured (ms)" in Page(text).charts()[0]


def test_a_measured_network_stands_where_the_table_and_where_the_corrected_one_put_it(
    result: SearchResult, text: str
) -> None:
    spec = Page(text).specs()["measured"]
    assert result.verification is not None
    count = len(result.verification.measured)
    [points] = marks(spec, "point")
    predicted, corrected = points[:count], points[count:]
    assert {one["kind"] for one in predicted} == {"predicted, estimated table"}
    assert {one["kind"] for one in corrected} == {"predicted, corrected table"} and len(corrected) == count
    latencies = result.verification.latencies
    for one, known in zip(predicted, result.verification.measured, strict=True):
        assert (one["x"], one["y"]) == (known.predicted.value, latencies[known.id].value)
    for one in corrected:  # the corrected table is right here: its marks lie on the line
        assert one["x"] == pytest.approx(one["y"], rel=1e-6)
    [ends] = marks(spec, "line")
    assert all(end["x"] == end["y"] for end in ends)


def test_times_that_others_disturbed_are_said_to_be_too_long(
    result: SearchResult, text: str, tmp_path: Path
) -> None:
    assert result.verification is not None
    count = len(result.verification.measured)
    assert f"while {count - 1} of {count} networks were measured, which got 60 % of it at worst" in text
    calm = report_html(verified_run(tmp_path / "calm"), tables={"toy": table()})
    assert "Other programs took the CPU" not in calm


def test_a_verified_run_has_a_plot_of_what_was_measured(result: SearchResult) -> None:
    charts = report_model(result, tables={"toy": table()}).charts_for_files()
    assert [chart.name for chart in charts].count("measured") == 1
