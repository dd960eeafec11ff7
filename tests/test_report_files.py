"""Plots for papers: the files that are promised, one column wide, the same each time, in safe colours."""

from __future__ import annotations

import itertools
import resource
import struct
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from report_fakes import marks, other_board, run_of_one, run_of_two_devices
from search_fakes import less_sure_when_large, table

from hwnas.errors import HwnasError
from hwnas.report.charts import KINDS, PALETTE
from hwnas.report.files import plots
from hwnas.report.model import ReportModel, report_model
from hwnas.search import SearchResult


def needs_renderer() -> None:
    """Skips where vl-convert cannot run: its V8 reserves tens of GB of address space."""
    pytest.importorskip("vl_convert", reason="vl-convert is not installed (hwnas[plots])")
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("the renderer needs unlimited address space (ulimit -v unlimited)")


def of(run: SearchResult) -> ReportModel:
    return report_model(run, tables={"toy": table()})


def png_pixels(file: Path) -> tuple[int, int]:
    """Width and height, from the file's own header."""
    content = file.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_a_run_of_one_device_has_its_four_plots_in_both_formats_the_same_each_time(tmp_path: Path) -> None:
    needs_renderer()
    model = of(run_of_one())
    files = plots(model.charts_for_files(), tmp_path / "new" / "figures")
    assert [file.name for file in files] == [
        f"{name}.{suffix}" for name in ("front", "hypervolume", "choices", "ops") for suffix in ("png", "svg")
    ]
    for file in files:
        if file.suffix == ".png":
            width, height = png_pixels(file)
            assert width == 1050 and 400 < height < 1300  # 3.5 inches at 300 dots an inch
        else:
            assert xml.etree.ElementTree.parse(file).getroot().attrib["width"].startswith("252")  # points
    again = plots(model.charts_for_files(), tmp_path / "again")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_every_objective_and_every_device_has_a_plot_of_its_own() -> None:
    model = report_model(run_of_two_devices(), tables={"toy": table(), "dear-nodes": other_board()})
    assert [chart.name for chart in model.charts_for_files()] == [
        "objectives",
        "front-latency",
        "front-latency-dear-nodes",
        "front-params",
        "hypervolume",
        "choices",
        "ops-toy",
        "ops-dear-nodes",
    ]


def test_a_file_s_chart_is_the_page_s_with_fewer_bars() -> None:
    model = of(run_of_one(trials=200, accuracy=less_sure_when_large))
    for page, file in zip(model.charts.values(), model.charts_for_files(), strict=True):
        if page.name == "ops":
            [parts] = marks(file.spec, "bar")
            assert len({part["rank"] for part in parts}) == min(8, len(model.networks))
        else:
            assert page is file


def test_a_run_without_networks_and_without_its_table_has_no_empty_plots() -> None:
    empty = report_model(run_of_one(stop=lambda: True), tables={})
    assert [chart.name for chart in empty.charts_for_files()] == ["front"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vl_convert", reason="vl-convert is not installed (hwnas[plots])")
    monkeypatch.setattr("hwnas.report.files._rendered", lambda specs: [(b"", b"")] * len(specs))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HwnasError, match="the plots cannot be written"):
        plots(of(run_of_one(trials=5)).charts_for_files(), tmp_path / "file" / "figures")


def test_a_renderer_that_dies_is_an_error_that_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vl_convert", reason="vl-convert is not installed (hwnas[plots])")
    dies = "import sys; sys.exit('Fatal process out of memory: CagedHeap')"
    monkeypatch.setattr("hwnas.report.files.RENDER", dies)
    with pytest.raises(HwnasError, match="ulimit -v unlimited"):
        plots(of(run_of_one(trials=5)).charts_for_files(), tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_the_command_writes_plots_and_says_where(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_renderer()
    monkeypatch.chdir(tmp_path)
    run_of_one(Path("run"))
    answer = hwnas("report", "run", "--plots", "figures")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.split()[:2] == ["run/report.html", "figures/front.png"]
    assert all(Path(line).is_file() for line in answer.out.split())


def test_without_the_renderer_the_error_names_the_extra_and_nothing_is_written(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_of_one(Path("run"), trials=5)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    answer = hwnas("report", "run", "--plots", "figures")
    assert answer.code == 2 and "pip install 'hwnas[plots]'" in answer.err
    assert not Path("figures").exists() and not Path("run/report.html").exists()


# --- colours ---------------------------------------------------------------------------------

DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip
"""What a linear RGB colour looks like: Machado, Oliveira and Fernandes (2009), table 1, severity 1.0."""


def lab(colour: str, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of #rrggbb as seen through a matrix on linear RGB."""
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(seen @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    relative = (to_xyz @ linear) / np.array([0.9505, 1.0, 1.089])
    f = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", ["usual", *DEFICIENCIES])
def test_the_colours_differ_for_every_kind_of_sight(sight: str) -> None:
    """A distance of 10 in CIELAB is several times what is just noticeable between areas."""
    seen = np.array(DEFICIENCIES.get(sight, np.eye(3)))
    assert set(KINDS.values()) < set(PALETTE)
    for one, other in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(lab(one, seen) - lab(other, seen)) > 10, f"{one} and {other}"
