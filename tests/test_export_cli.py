"""`hwnas export` with a trained network: formats, int8 with its cost in accuracy, and the model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from nn_archs import SHVIT_LIKE
from train_samples import ARCH, COLOURS, RECIPE, squares

from hwnas.export.accuracy_check import compare
from hwnas.export.formats import FORMATS
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.train import checkpoint
from hwnas.train.checkpoint import Checkpoint, EpochRecord


def suffix_of(arguments: list[str]) -> str:
    """The ending of a file in the format that a command line names; onnx's by default."""
    named = arguments[arguments.index("--format") + 1] if "--format" in arguments else "onnx"
    return FORMATS.get(named, FORMATS["onnx"]).suffix


@pytest.fixture
def trained(tmp_path: Path) -> Checkpoint:
    """A checkpoint for three colours, in tmp_path/trained."""
    arch = ARCH.adapted(classes=3)
    network = randomise(build(arch), seed=3)
    names = tuple(sorted(COLOURS))
    history = (EpochRecord(1, 0.5, 71.5, 100.0, 0.1, 2.0),)
    saved = Checkpoint(
        dict(network.state_dict()), names, RECIPE, history, arch=arch, name="mine", data={"name": "squares"}
    )
    (tmp_path / "trained").mkdir()
    checkpoint.save(saved, tmp_path / "trained" / checkpoint.BEST)
    return saved


@pytest.mark.parametrize(
    ("model_format", "package"),
    [("openvino", "openvino"), ("ncnn", "ncnn"), ("exported-program", "torch"), ("onnx", "onnxruntime")],
)
def test_every_format_says_the_accuracy_before_and_after(
    model_format: str, package: str, trained: Checkpoint, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip(package, reason=f"the format {model_format} is checked by {package}")
    data = squares(tmp_path / "data")
    arguments = (
        "--format",
        model_format,
        "--evaluate",
        str(data),
        "--out",
        str(tmp_path / f"m{FORMATS[model_format].suffix}"),
        "--json",
    )
    answer = hwnas("export", str(tmp_path / "trained"), *arguments)
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    exported = document["accuracy"]["exported"]
    assert (exported["images"], exported["split"]) == (24, "test")
    assert exported["agreement_percent"] == 100
    assert exported["top1_after_percent"] == exported["top1_before_percent"]


def test_int8_is_calibrated_and_its_cost_told(
    trained: Checkpoint, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    data, out = str(squares(tmp_path / "data")), tmp_path / "m.onnx"
    options = ("--precision", "int8", "--calibration", data, "--evaluate", data, "--out", str(out))
    answer = hwnas("export", str(tmp_path / "trained"), *options)
    assert answer.code == 0, answer.err
    assert "points lost; the same class for" in answer.out
    assert b"QuantizeLinear" in out.read_bytes()
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": np.zeros((1, 3, 16, 16), np.float32)})[0].shape == (1, 3)
    card = json.loads((tmp_path / "m.onnx.card.json").read_text())
    assert card["precision"] == "int8" and card["calibration"] == "data"


def test_a_comparison_counts_what_was_right_before_and_after(trained: Checkpoint, tmp_path: Path) -> None:
    """The network says class 0 always, the export class 1: a third is right either way, none agrees."""

    class First(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(3)[:1].expand(len(images), 3)

    second: Callable[[Any], Any] = lambda images: np.eye(3, dtype=np.float32)[[1] * len(images)]  # noqa: E731
    found = compare(trained, First(), second, squares(tmp_path / "data", test=4))
    assert found.images == 12
    assert found.top1_before_percent == found.top1_after_percent == pytest.approx(100 / 3)
    assert found.agreement_percent == 0


def test_the_card_says_what_is_known_and_what_is_not(
    trained: Checkpoint, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    assert hwnas("export", str(tmp_path / "trained"), "--out", str(tmp_path / "m.onnx")).code == 0
    card = json.loads((tmp_path / "m.onnx.card.json").read_text())
    assert card["arch"] == trained.arch.to_dict() and card["id"] == trained.arch.id
    assert card["classes_names"] == ["blue", "green", "red"]
    assert card["recipe"] == RECIPE.to_dict() and card["data"] == {"name": "squares"}
    assert card["accuracy"] == {"in_training": {"epoch": 1, "top1_percent": 71.5}, "exported": None}
    assert card["latency"]["measured"] is None
    assert card["versions"]["torch"] == torch.__version__
    text = (tmp_path / "m.onnx.card.md").read_text()
    assert "71.50 % top-1, epoch 1" in text
    assert "| accuracy of this export | unknown |" in text
    assert "Measured: unknown" in text
    assert str(tmp_path) not in text


def test_a_cards_predicted_latency_is_the_tables(hwnas: Callable[..., Any], tmp_path: Path) -> None:
    from hwnas.predictors.latency import LatencyTable
    from hwnas.space import preset

    assert hwnas("export", "uniform-t", "--out", str(tmp_path / "m.onnx")).code == 0
    card = json.loads((tmp_path / "m.onnx.card.json").read_text())
    rows = {row["device"]: row for row in card["latency"]["predicted"]}
    expected = LatencyTable.load("cpu-x86").predict(preset("uniform-t"))
    assert rows["cpu-x86"]["ms"] == pytest.approx(expected.value, abs=1e-4)
    assert rows["cpu-x86"]["table"] == "measured"
    assert card["recipe"] is None and card["data"] is None and card["weights"] == "random"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "--precision int8 and --calibration DATA go together"),
        (["--precision", "int4"], "--precision must be fp32 or int8"),
        (["--format", "tflite"], "--format must be one of onnx"),
        (["--evaluate", "data"], "need trained weights"),
        (["--format", "ncnn", "--batch", "4"], "ncnn: batch must be 1"),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_written(
    arguments: list[str], message: str, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    source = tmp_path / "small.yaml"
    source.write_text(SHVIT_LIKE.to_yaml())
    answer = hwnas("export", str(source), "--out", str(tmp_path / f"m{suffix_of(arguments)}"), *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert [file.name for file in tmp_path.iterdir()] == ["small.yaml"]
