"""Bad input on the command line: one message, the exit code, no traceback, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.predictors.latency import Coefficients, DeviceProfile, LatencyTable
from hwnas.predictors.latency.features import FEATURE_NAMES
from hwnas.space import preset

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def toy_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a table under the name `toy-board` beside it."""
    tables = tmp_path / "tables"
    LatencyTable(
        name="toy-board",
        profile=DeviceProfile(board="Toy", runtime="onnxruntime"),
        provenance="estimated",
        coefficients=Coefficients(tuple(1e-6 for _ in FEATURE_NAMES), offset_ms=1.0),
        created="2026-11-21",
    ).save(tables / "toy-board.yaml")
    monkeypatch.setenv("HWNAS_TABLES", str(tables))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tables / "toy-board.yaml"


def refused(answer: Any, code: int, *parts: str) -> None:
    """One line on stderr that has all the parts, nothing on stdout, nothing left behind."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1, answer.err
    for part in parts:
        assert part in answer.err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("budget", ["20", "0ms", "-5ms", "nanms", "infms", "20 parsecs", ""])
def test_a_budget_without_a_positive_time_is_refused(hwnas: Run, budget: str) -> None:
    refused(hwnas("search", "--device", "toy-board", f"--budget={budget}"), 2, f"'{budget}'", "20ms")


def test_an_unknown_device_is_answered_with_the_nearest_and_the_list(hwnas: Run) -> None:
    for command in (
        ("search", "--device", "toy-bord", "--budget", "20ms"),
        ("describe", "uniform-t", "--device", "toy-bord"),
    ):
        refused(hwnas(*command), 2, "'toy-bord'", "Did you mean 'toy-board'?", "Known: ")


def test_a_budget_below_the_fastest_network_names_the_fastest(hwnas: Run) -> None:
    answer = hwnas("search", "--device", "toy-board", "--budget", "1us")
    refused(answer, 3, "fastest", " ms")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda text: text[: len(text) // 2], ""),
        (lambda text: "", "empty"),
        (lambda text: text.replace("offset_ms: 1.0", "offset_ms: .nan"), "offset_ms"),
        (lambda text: text.replace("offset_ms: 1.0", "offset_ms: .inf"), "offset_ms"),
        (lambda text: text.replace("offset_ms: 1.0", "offset_ms: -1.0"), "offset_ms"),
        (lambda text: text.replace("offset_ms: 1.0", "offset_ms: 1.5"), "checksum"),
        (lambda text: text.replace("schema: 2", "schema: 5"), "upgrade"),
        (lambda text: "hello: world\n", "format"),
    ],
    ids=["truncated", "empty", "NaN", "infinite", "negative", "changed", "newer", "foreign"],
)
def test_a_damaged_table_is_refused_by_its_file(
    hwnas: Run, toy_board: Path, spoil: Callable[[str], str], complaint: str
) -> None:
    sound = toy_board.read_text()
    damaged = spoil(sound)
    assert damaged != sound
    toy_board.write_text(damaged)
    for command in (
        ("search", "--device", "toy-board", "--budget", "20ms"),
        ("describe", "uniform-t", "--device", "toy-board"),
    ):
        refused(hwnas(*command), 6, "toy-board.yaml", complaint)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("width: 64", "width: 66", "width must be divisible by heads, got width=66 and heads=4"),
        ("type: reuse", "type: reusse", "no attention 'reusse'. Did you mean 'reuse'?"),
        ("heads: 4", "heads: 3", "one per head"),
        ("[1, 3, 5, 7]", "[1, 3, 5, 6]", "kernels[3]: a kernel must be odd"),
        ("resolution: 224", "resolution: true", "resolution: must be a whole number, got True"),
        ("width: 64", "width: -64", "stages[0].width"),
        ("width: 64", "width: .nan", "stages[0].width: must be a whole number"),
        ("width: 64", "width: '64'", "stages[0].width: must be a whole number, got '64' (text)"),
        ("width: 64", "width: 1e-3", "stages[0].width: must be a whole number"),
        ("width: 64", "width: 64000000", "from 1 to 4096"),
        ("resolution: 224", "resolution: 12:30", "resolution: must be a whole number"),
        ("width: 64", "widht: 64", "widht"),
    ],
)
def test_an_architecture_that_breaks_a_rule_is_refused_with_its_field(
    hwnas: Run, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    text = preset("uniform-t").to_yaml()
    assert old in text
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace(old, new, 1))
    answer = hwnas("describe", str(file))
    assert answer.code == 2
    assert "mine.yaml" in answer.err
    assert complaint in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_run_that_is_not_there_is_named(hwnas: Run) -> None:
    refused(hwnas("describe", "runs/nowhere#1"), 2, "runs/nowhere")


def test_a_missing_data_folder_is_named_before_anything_is_built(hwnas: Run) -> None:
    refused(hwnas("train", "uniform-t", "--data", "no-such-folder", "--out", "out"), 2, "no-such-folder")


def test_exporting_an_unknown_network_leaves_no_file(hwnas: Run) -> None:
    refused(hwnas("export", "uniform-x", "--out", "model.onnx"), 2, "'uniform-x'", "Did you mean 'uniform-")
