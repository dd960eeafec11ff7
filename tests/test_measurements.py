"""What networks took: exported files are timed as they are, and what was measured is found again."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nn_archs import SHVIT_LIKE
from schema_checks import check_file
from train_samples import ARCH, COLOURS, RECIPE

from hwnas import plugins
from hwnas.api import measuring
from hwnas.errors import FileFormatError, UsageError
from hwnas.export.exported_file import find_exported
from hwnas.export.timing.random_weights import randomise
from hwnas.measure.networks import MeasuredNetwork
from hwnas.nn import build
from hwnas.predictors.latency.measurements import FILE, GRAPH, Measurement, record, recorded
from hwnas.train import checkpoint
from hwnas.train.checkpoint import Checkpoint

ONE = Measurement(
    network="abc",
    ms=2.0,
    low_ms=1.9,
    high_ms=2.2,
    measured="2026-11-21T16:00:00Z",
    board="B",
    runtime="onnxruntime",
    runtime_version="1.0",
    provider="CPUExecutionProvider",
    threads=1,
    batch=1,
    precision="fp32",
    graph=GRAPH,
)


# --- the record --------------------------------------------------------------------------------


def test_a_measurement_is_found_again_by_its_network(tmp_path: Path) -> None:
    other = dataclasses.replace(ONE, network="def")
    record(tmp_path, [ONE, other])
    assert recorded(tmp_path, "abc") == (ONE,)
    assert recorded(tmp_path, "xyz") == ()
    assert recorded(tmp_path / "nowhere", "abc") == ()


def test_an_edited_measurement_is_refused_and_a_file_of_before_there_were_checksums_is_read(
    tmp_path: Path,
) -> None:
    record(tmp_path, [ONE])
    whole = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(whole.replace('"threads": 1', '"threads": 4'))
    with pytest.raises(FileFormatError, match="not a file of measurements"):
        recorded(tmp_path, "abc")
    (tmp_path / FILE).write_text(json.dumps({"format": 1, "measurements": [ONE.to_dict()]}))
    assert recorded(tmp_path, "abc") == (ONE,)


def test_the_newest_of_a_configuration_is_kept(tmp_path: Path) -> None:
    newer = dataclasses.replace(ONE, ms=3.0, high_ms=3.5, measured="2026-11-22T16:00:00Z")
    two_threads = dataclasses.replace(ONE, threads=2)
    record(tmp_path, [ONE, two_threads])
    record(tmp_path, [newer])
    assert recorded(tmp_path, "abc") == (two_threads, newer)
    check_file(tmp_path / FILE)


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import dataclasses, json, sys\n"
        "from pathlib import Path\n"
        "from hwnas.predictors.latency.measurements import Measurement, record\n"
        "one = Measurement(**json.loads(sys.argv[1]))\n"
        "for number in range(8):\n"
        "    record(Path(sys.argv[2]), [dataclasses.replace(one, board=f'{sys.argv[3]}-{number}')])\n"
    )
    command = [sys.executable, "-c", code, json.dumps(ONE.to_dict()), str(tmp_path)]
    processes = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len({own.board for own in recorded(tmp_path, "abc")}) == 24


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not a file of measurements"),
        ("[]", "not a file of measurements"),
        ('{"format": 3, "measurements": []}', "reads formats 1 to 2, got 3"),
        ('{"format": 2, "measurements": []}', "not a file of measurements"),
        ('{"format": 1, "measurements": [], "checksum": ""}', "not a file of measurements"),
        ('{"format": 0, "measurements": []}', "not a file of measurements"),
        ('{"format": 1, "measurements": [{"ms": 1}]}', "not a measurement"),
        (
            json.dumps({"format": 1, "measurements": [ONE.to_dict() | {"ms": "2"}]}),
            "not a measurement: ms is '2'",
        ),
        *(
            (json.dumps({"format": 1, "measurements": [ONE.to_dict() | wrong]}), "not a (measurement|file)")
            for wrong in (
                {"ms": math.nan},
                {"ms": 10**400},
                {"high_ms": math.inf},
                {"low_ms": -1.0},
                {"ms": 0.5},
                {"high_ms": 1e300},
                {"threads": 0},
                {"batch": -4},
            )
        ),
    ],
)
def test_a_damaged_file_is_named_and_left(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(FileFormatError, match=told):
        recorded(tmp_path, "abc")
    with pytest.raises(FileFormatError, match=told):
        record(tmp_path, [ONE])
    assert (tmp_path / FILE).read_text() == content


# --- exported files ----------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in tmp_path/mine, which is the working folder's."""
    arch = ARCH.adapted(classes=3)
    network = randomise(build(arch), seed=3)
    saved = Checkpoint(
        dict(network.state_dict()), tuple(sorted(COLOURS)), RECIPE, (), arch=arch, name="net#1"
    )
    (tmp_path / "mine").mkdir()
    checkpoint.save(saved, tmp_path / "mine" / checkpoint.BEST)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


class FakeTimings:
    """Stands for the measuring itself: every network takes 2 ms; what was given to be timed is kept."""

    def __init__(self) -> None:
        self.models: Mapping[str, Any] = {}

    def __call__(self, models: Mapping[str, Any], *_: Any, **__: Any) -> dict[str, MeasuredNetwork]:
        self.models = models
        return {
            name: MeasuredNetwork((2.0, 1.9, 2.2), (2.1, 2.0, 2.3), (4.0, 4.1, 4.0), 2.5, 1.0)
            for name in models
        }


@pytest.fixture
def fake_timings(monkeypatch: pytest.MonkeyPatch) -> FakeTimings:
    fake = FakeTimings()
    monkeypatch.setattr(measuring, "measure_archs", fake)
    return fake


@pytest.mark.parametrize(
    ("model_format", "file", "runtime"),
    [
        ("onnx", "mine.onnx", "onnxruntime"),
        ("openvino", "mine.openvino.xml", "openvino"),
        ("ncnn", "mine.ncnn.param", "ncnn"),
        ("exported-program", "mine.pt2", "torch"),
    ],
)
def test_what_is_timed_is_the_exported_network_itself(
    model_format: str, file: str, runtime: str, trained: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    """The runtime that times it gives the logits of the checkpoint for its input."""
    module = plugins.load("runtimes", runtime)
    if module.probe()["missing"]:
        pytest.skip(f"{runtime} is not installed")
    answer = hwnas("export", "mine", "--format", model_format)
    assert answer.code == 0, answer.err
    assert f"Next: hwnas measure {file}\n" in answer.out
    found = find_exported(Path(file))
    assert (found.runtime, found.precision, found.batch) == (runtime, "fp32", 1)
    session = module.prepare(found.model(runtime), threads=1, batch=1, precision="fp32")
    images = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    network = checkpoint.trained_network(checkpoint.load(trained))
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(session.outputs()[0].reshape(1, 3), expected, rtol=1e-3, atol=1e-3)
    session.close()


def test_onnx_is_timed_on_openvino_where_asked_and_other_files_on_their_own_runtime_only(
    trained: Path, hwnas: Callable[..., Any]
) -> None:
    assert hwnas("export", "mine").code == 0
    found = find_exported(Path("mine.onnx"))
    assert found.model("openvino") == Path("mine.onnx").read_bytes()
    with pytest.raises(UsageError, match="ncnn cannot run the format 'onnx'"):
        found.model("ncnn")


def test_what_a_file_took_is_in_its_card(
    trained: Path, hwnas: Callable[..., Any], fake_timings: FakeTimings
) -> None:
    assert hwnas("export", "mine").code == 0
    for threads in ("1", "2", "2"):
        answer = hwnas("measure", "mine.onnx", "--threads", threads)
        assert answer.code == 0, answer.err
    assert "kept in mine.onnx.card.md" in answer.err
    assert fake_timings.models == {"mine.onnx": Path("mine.onnx").read_bytes()}
    rows = json.loads(Path("mine.onnx.card.json").read_text())["latency"]["measured"]
    assert [(row["of"], row["threads"], row["ms"]) for row in rows] == [
        ("this file", 1, 2.0),
        ("this file", 2, 2.0),
    ]
    text = Path("mine.onnx.card.md").read_text()
    assert "| this file | 2 | 1.9 to 2.2 |" in text and "Measured: unknown" not in text


def test_what_a_training_took_is_in_the_card_of_a_later_export(
    trained: Path, hwnas: Callable[..., Any], fake_timings: FakeTimings
) -> None:
    assert hwnas("measure", "mine").code == 0
    assert fake_timings.models == {"mine": checkpoint.load(trained).arch}
    assert hwnas("export", "mine").code == 0
    (row,) = json.loads(Path("mine.onnx.card.json").read_text())["latency"]["measured"]
    assert (row["of"], row["ms"], row["runtime"]) == ("deployment graph", 2.0, "onnxruntime")


def test_a_measurement_of_before_graphs_were_noted_is_of_the_reference_graph(
    trained: Path, hwnas: Callable[..., Any]
) -> None:
    row = ONE.to_dict() | {"network": checkpoint.load(trained).arch.id}
    del row["graph"]
    (trained / FILE).write_text(json.dumps({"format": 1, "measurements": [row]}))
    record(trained, [dataclasses.replace(ONE, network=row["network"]), dataclasses.replace(ONE, network="x")])
    assert hwnas("export", "mine").code == 0
    rows = json.loads(Path("mine.onnx.card.json").read_text())["latency"]["measured"]
    assert [row["of"] for row in rows] == ["reference graph", "deployment graph"]


def test_a_preset_leaves_nothing_behind(
    hwnas: Callable[..., Any], fake_timings: FakeTimings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SHVIT_LIKE.to_yaml())
    answer = hwnas("measure", "uniform-t", "small.yaml", "--json")
    assert json.loads(answer.out)["written"] == []
    assert [file.name for file in tmp_path.iterdir()] == ["small.yaml"]


def test_int8_is_timed_as_int8_and_not_beside_fp32(
    trained: Path, hwnas: Callable[..., Any], fake_timings: FakeTimings, tmp_path: Path
) -> None:
    from train_samples import squares

    data = str(squares(tmp_path / "data"))
    assert hwnas("export", "mine").code == 0
    assert hwnas("export", "mine", "--precision", "int8", "--calibration", data).code == 0
    answer = hwnas("measure", "mine.int8.onnx", "--json")
    assert json.loads(answer.out)["precision"] == "int8"
    answer = hwnas("measure", "mine.onnx", "mine.int8.onnx")
    assert answer.code == 2
    assert "one precision, got int8 for fp32: measure this file by itself" in answer.err


def test_weights_of_another_format_are_not_overwritten(trained: Path, hwnas: Callable[..., Any]) -> None:
    for package in ("openvino", "ncnn"):
        pytest.importorskip(package)
    assert hwnas("export", "mine", "--format", "openvino", "--out", "m.xml").code == 0
    before = Path("m.bin").read_bytes()
    answer = hwnas("export", "mine", "--format", "ncnn", "--out", "m.param")
    assert answer.code == 2
    assert "m.bin has the weights of m.xml" in answer.err and "--out m.ncnn.param" in answer.err
    assert Path("m.bin").read_bytes() == before
    assert hwnas("export", "mine", "--format", "ncnn", "--out", "m.ncnn.param").code == 0


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (lambda: Path("mine.onnx").unlink(), 2, "no file mine.onnx: write one with hwnas export CKPT"),
        (lambda: Path("mine.onnx.card.json").unlink(), 2, "a model is measured with its card beside it"),
        (lambda: Path("mine.onnx.card.json").write_text("{}"), 6, "not a model card that this hwnas reads"),
    ],
)
def test_a_file_that_cannot_be_measured_says_what_to_do(
    change: Callable[[], object], code: int, told: str, trained: Path, hwnas: Callable[..., Any]
) -> None:
    assert hwnas("export", "mine").code == 0
    change()
    answer = hwnas("measure", "mine.onnx")
    assert answer.code == code
    assert told in answer.err and answer.err.count("\n") == 1


@pytest.mark.long
def test_a_file_is_timed_for_real(trained: Path, hwnas: Callable[..., Any]) -> None:
    assert hwnas("export", "mine").code == 0
    answer = hwnas("measure", "mine.onnx", "--rounds", "1", "--json")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["networks"]
    assert row["form"] == "onnx" and row["measured_ms"] > 0
