"""`hwnas table` and `hwnas measure` from the command line; one network is timed, and no time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas.cli.app import main
from hwnas.predictors.latency import DeviceProfile, LatencyTable, Row
from hwnas.space import lower, preset


def save_table(folder: Path, **profile: object) -> Path:
    rows = {op.key: Row(0.5, 0.4, 0.6, 0.7) for op in lower(preset("uniform-t"))}
    first = next(iter(rows))
    rows[first] = Row(0.5, 0.4, 0.6, filled=True)
    settings = {"board": "B", "runtime": "onnxruntime", **profile}
    table = LatencyTable(name="mine", profile=DeviceProfile(**settings), provenance="measured", rows=rows)  # type: ignore[arg-type]
    table.save(folder / "mine.yaml")
    return folder / "mine.yaml"


def test_check_says_what_a_table_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "check", str(save_table(tmp_path)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["provenance"] == "measured"
    assert document["rows_filled"] == 1
    assert document["heldout_mape_percent"] is None


def test_strict_refuses_rows_that_were_not_measured_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "check", str(save_table(tmp_path)), "--strict"]) == 6
    assert "--strict refuses disturbed and filled rows" in capsys.readouterr().err


def test_show_lists_rows_of_a_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", "show", str(save_table(tmp_path)), "--kind", "head", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["key"].partition("(")[0] for row in rows] == ["head"]
    assert rows[0]["ms"] == 0.5


def test_a_dry_run_says_how_much_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "build", "--name", "x", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "cells, about" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "../x"], "--name is letters"),
        (["--name", "x", "--ops", "some"], "--ops must be 'fitting', 'all' or 'presets'"),
        (["--name", "x", "--minutes", "0.2"], "Give more, or fewer --networks"),
    ],
)
def test_a_build_that_cannot_be_is_refused_before_the_work(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", "build", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_measuring_another_configuration_than_the_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_table(tmp_path, runtime_version="0.1")
    assert main(["measure", "uniform-t", "--device", str(path), "--threads", "2"]) == 2
    error = capsys.readouterr().err
    assert "threads: the table has 1, requested 2" in error
    assert "runtime_version: the table has 0.1" in error
    assert "--allow-mismatch" in error


def test_measuring_beside_a_table_of_another_board_says_that_the_two_do_not_compare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["measure", "uniform-t", "--device", "rpi4", "--rounds", "1", "--json"]) == 0
    printed = capsys.readouterr()
    assert "the table 'rpi4' (estimated) is for 'Raspberry Pi 4B'" in printed.err
    (row,) = json.loads(printed.out)["networks"]
    assert row["measured_ms"] > 0
    assert row["predicted_low_ms"] < row["predicted_ms"] < row["predicted_high_ms"]
