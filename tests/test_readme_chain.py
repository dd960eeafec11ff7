"""The README's chain, command by command: from a search to files that were measured."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from train_samples import squares

CHAIN = ("describe", "train", "evaluate", "explain", "export", "predict", "measure")
README = Path(__file__).parents[1] / "README.md"


def commands() -> list[list[str]]:
    """The words of each command of CHAIN in the README's section "Then", up to its first paragraph."""
    section = README.read_text(encoding="utf-8").partition("## Then\n")[2]
    found = re.search(r"(?:^    .*\n)+", section, re.MULTILINE)
    assert found
    lines = [shlex.split(line.replace("RUN#", "RUN@"), comments=True) for line in found.group().splitlines()]
    return [words[1:] for words in lines if words and words[1] in CHAIN]


@pytest.mark.slow
def test_every_command_of_the_readmes_chain_works_after_those_before(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On three colours, with few epochs of small images and one round of timing, set from outside."""
    for name, value in {
        "HWNAS_TRAIN_EPOCHS": "1",
        "HWNAS_TRAIN_BATCH": "12",
        "HWNAS_TRAIN_IMAGE_SIZE": "48",
        "HWNAS_TRAIN_STEM_STRIDE": "8",
        "HWNAS_TRAIN_WORKERS": "0",
        "HWNAS_MEASURE_ROUNDS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    data = squares(tmp_path / "data")
    (tmp_path / "cat.jpg").write_bytes((data / "test" / "red" / "000.jpg").read_bytes())
    search = ("search", "--device", "cpu-x86", "--budget", "2ms", "--trials", "50", "--out", "run")
    assert hwnas(*search).code == 0
    given = {"FOLDER": str(data), "BIGGER": "trained", "RUN@1": "run#1"}
    for words in commands():
        words = [given.get(word, word.replace("teacher=BIGGER", "teacher=trained")) for word in words]
        if words[0] == "measure":
            words.append("--allow-mismatch")  # whatever machine this is
        answer = hwnas(*words)
        assert answer.code == 0, f"hwnas {shlex.join(words)}: {answer.err}"
    for folder in ("trained", "distilled", "finer"):
        assert (tmp_path / folder / "result.json").is_file()
    for file in ("model.onnx", "model.int8.onnx", "model.openvino.xml"):
        assert (tmp_path / file).is_file()
    card = json.loads((tmp_path / "model.onnx.card.json").read_text())
    assert card["accuracy"]["exported"]["images"] == 24
    assert [row["of"] for row in card["latency"]["measured"]] == ["this file"]
