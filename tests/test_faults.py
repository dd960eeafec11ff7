"""The faults that are promised to be survived each have tests, and the page that lists them is up to date."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import reliability


def test_every_fault_of_the_list_has_tests_that_are_there() -> None:
    assert not list(reliability.missing())
    assert all(fault.tests for kind in reliability.kinds() for fault in kind.faults)


def test_the_page_is_what_the_list_gives() -> None:
    assert reliability.PAGE.read_text(encoding="utf-8") == reliability.page(), (
        "docs/reliability.md is not up to date: run 'python tests/reliability.py'"
    )


def test_a_runtime_too_old_for_the_exported_opset_says_so_when_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 49: a board's runtime is asked before any model is sent to it."""
    from hwnas.runtimes import onnxruntime as runtime

    old = SimpleNamespace(__version__="1.10.0", get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    assert runtime.probe()["missing"] == "pip install 'onnxruntime>=1.12' (1.10.0 does not read opset 17)"
    old.__version__ = "1.12.0"
    assert runtime.probe()["missing"] is None


def test_an_exported_file_refuses_an_image_of_another_size(tmp_path: Path) -> None:
    """Fault 51: the runtime names the input, what came and what is expected."""
    onnxruntime = pytest.importorskip("onnxruntime")
    numpy = pytest.importorskip("numpy")
    from train_samples import ARCH

    from hwnas.export import deploy
    from hwnas.nn import build

    deploy.write(deploy.prepare(build(ARCH), batch="dynamic"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"(?s)invalid dimensions for input: images.*Got: 24 Expected: 16"):
        session.run(None, {"images": numpy.zeros((1, 3, 24, 16), numpy.float32)})
