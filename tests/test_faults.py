"""The faults of training and of ONNX files that are promised to be caught: each has a test that names it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

NAMED = {
    41: "SIGKILL while saving: the previous checkpoint loads",
    42: "a truncated or flipped checkpoint: checksum error, falls back",
    43: "a pickle payload: refused",
    44: "NaN loss: failed, never best",
    45: "resumed = uninterrupted",
    46: "corrupt, CMYK, 1-pixel and zero images, one class, empty folder: named file, count",
    47: "weights inside the ONNX file",
    48: "parity out of tolerance: no file",
    49: "opset above the board's runtime: found before upload",
    50: "no host paths inside the file",
    51: "wrong input shape: clear error",
}


def docstrings() -> str:
    """What all tests say of themselves."""
    said = []
    for file in sorted(Path(__file__).parent.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said.append(ast.get_docstring(node) or "")
    return "\n".join(said)


def test_each_fault_has_a_test_that_names_it() -> None:
    named = {int(number) for number in re.findall(r"[Ff]ault (\d+)", docstrings())}
    missing = [f"{number}: {what}" for number, what in NAMED.items() if number not in named]
    assert not missing, "\n".join(missing)


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
