"""The examples run as they are."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_every_example_is_in_the_list_and_tested() -> None:
    files = {file.name for file in EXAMPLES.glob("*.py")}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = Path(__file__).parent
    tests = "".join(
        (here / f"test_{name}.py").read_text(encoding="utf-8") for name in ("examples", "extending")
    )
    assert files and all(f"`{name}`" in listed and f'{name}"' in tests for name in files)


def test_a_search_with_an_own_accuracy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("own_accuracy.py", monkeypatch=monkeypatch)
    assert "within 20 ms on rpi4, 8 ms on rpi5" in capsys.readouterr().out


def test_a_search_of_an_own_space(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("own_space.py", monkeypatch=monkeypatch)
    out = capsys.readouterr().out
    assert "resolution: 160" in out and "single-head" not in out and "cascaded-group" not in out


def test_from_photos_to_a_measured_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("onnxruntime")
    from train_samples import squares

    photos = squares(tmp_path / "photos")
    small = ("--epochs", "1", "--side", "32", "--budget", "5ms")
    run("photos_to_file.py", str(photos), str(tmp_path / "out"), *small, monkeypatch=monkeypatch)
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert "Measurements(on " in capsys.readouterr().out
