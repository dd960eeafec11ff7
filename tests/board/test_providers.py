"""A provider that the board's runtime lacks: an error before anything is measured, never a run on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from board import sshd
from board.test_several import start

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(
    "words",
    [
        ("measure", "shvit-s1", "--provider", "cuda"),
        ("measure", "shvit-s1", "--provider", "CUDAExecutionProvider", "--json"),
        ("table", "build", "--name", "gpu", "--minutes", "5", "--networks", "4", "--provider", "cuda"),
    ],
    ids=["measure", "measure as JSON", "table build"],
)
def test_a_provider_that_the_board_lacks_is_a_wrong_configuration(
    words: tuple[str, ...], board: sshd.Board, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's onnxruntime has CUDA")
    process = start(tmp_path, board.config, *words, "--host", sshd.HOST)
    out, complaint = process.communicate()
    assert process.returncode == 2, complaint
    assert json.loads(out)["error"]["exit_code"] == 2 if "--json" in words else out == ""
    said = " ".join(complaint.split())
    assert f"the requested provider {words[words.index('--provider') + 1]}: onnxruntime 1." in said
    assert "CPUExecutionProvider" in said and "or leave --provider out" in said
    assert "Traceback" not in complaint
    assert not list(tmp_path.glob("**/*gpu*"))  # nothing half-written
    assert not board.processes()
