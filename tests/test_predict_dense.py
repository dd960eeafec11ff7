"""Detectors and segmentation networks go the way of classifiers: export, card, predict, describe, measure."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dense_samples import ARCH, RECIPE, shapes
from photos import answers_of, photographs, program_of
from PIL import Image

from hwnas.cli.app import main
from hwnas.data.decoding import decode
from hwnas.dense import checkpoint as checkpoints
from hwnas.dense.networks import DenseNetwork
from hwnas.dense.trainer import train
from hwnas.errors import HwnasError, UsageError
from hwnas.export import dense
from hwnas.export.dense_cost import cost_of, latency_on
from hwnas.export.formats import FORMATS
from hwnas.export.metadata import metadata_in
from hwnas.export.prediction import MapFound, ObjectsFound, Predictor
from hwnas.predictors.latency import LatencyTable
from hwnas.space import lower

TASKS = ("detect", "segment")
SCORE = 0.06
"""Boxes near the threshold of 0.05 may fall on either side of it."""


@pytest.fixture(scope="session")
def folder(made_once: Callable[..., Path]) -> Path:
    """Trainings of a detector and a segmentation network, their data, 25 photos, and their ONNX files."""
    pytest.importorskip("pycocotools")

    def make(root: Path) -> None:
        data = shapes(root / "data", train=24, val=8)
        photographs(root / "photos", 25)
        for task, epochs in (("detect", 4), ("segment", 3)):
            recipe = dataclasses.replace(RECIPE, epochs=epochs)
            train(ARCH, task, data, recipe, root / task, name=f"shapes-{task}")
            assert main(("export", str(root / task), "--out", str(root / f"{task}.onnx"))) == 0

    return made_once("dense", make)


def photos_of(folder: Path) -> list[Path]:
    return sorted((folder / "photos").glob("*.jpg"))


def torchs_network(folder: Path, task: str, size: int) -> DenseNetwork:
    """Torchvision's own network, told to fill every photo up to a square of the file's side."""
    network = checkpoints.trained_network(checkpoints.load(folder / task))
    network.inner.transform.size_divisible = size  # type: ignore[union-attr, assignment]
    return network


def answer_of(network: DenseNetwork, file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """What torchvision's own transform, network and postprocessing give for a photo."""
    image = torch.from_numpy(np.array(decode(file.read_bytes()))).permute(2, 0, 1)
    with torch.no_grad():
        (found,) = network([image])
    return {name: value.numpy() for name, value in found.items()}


def same_objects(
    found: list[tuple[int, float, list[float]]], expected: list[tuple[int, float, list[float]]]
) -> bool:
    """Each object of one list that is clearly above the threshold has its like in the other."""

    def has_like(own: tuple[int, float, list[float]], others: list[tuple[int, float, list[float]]]) -> bool:
        return any(
            own[0] == label and abs(own[1] - score) < 1e-3 and np.allclose(own[2], box, atol=0.05)
            for label, score, box in others
        )

    pairs = ((found, expected), (expected, found))
    return all(has_like(own, others) for one, others in pairs for own in one if own[1] > SCORE)


def torchs_objects(answer: dict[str, np.ndarray[Any, Any]]) -> list[tuple[int, float, list[float]]]:
    """(class from 0 on, score, box); label 0 of torchvision is no class."""
    rows = zip(answer["labels"], answer["scores"], answer["boxes"].tolist(), strict=True)
    return [(int(label) - 1, float(score), box) for label, score, box in rows if label > 0]


def test_predict_finds_torchs_boxes_in_25_photos(folder: Path) -> None:
    predictor = Predictor.open(folder / "detect.onnx")
    network = torchs_network(folder, "detect", predictor.metadata.preprocessing.width)
    seen = 0
    for file in photos_of(folder):
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, ObjectsFound)
        own = found.found
        rows = zip(own.labels.tolist(), own.scores.tolist(), own.boxes.tolist(), strict=True)
        expected = torchs_objects(answer_of(network, file))
        assert same_objects(list(rows), expected), file.name
        seen += sum(score > SCORE for _, score, _ in expected)
    assert seen > 25, "the detector finds too little for this to be a comparison"


def test_predict_gives_torchs_class_maps_for_25_photos(folder: Path) -> None:
    predictor = Predictor.open(folder / "segment.onnx")
    network = torchs_network(folder, "segment", predictor.metadata.preprocessing.width)
    for file in photos_of(folder):
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, MapFound)
        differing = (found.classes != answer_of(network, file)["map"]).mean()
        assert differing < 0.002, f"{file.name}: {100 * differing:.2f} % of the pixels"


@pytest.mark.parametrize("task", [pytest.param("detect", marks=pytest.mark.slow), "segment"])
def test_a_file_of_the_photos_own_size_gives_what_the_training_network_gives(
    folder: Path, tmp_path: Path, task: str
) -> None:
    """96 x 64 photos fill a 96 x 64 input: nothing is added, and torch's network is left as it is."""
    out = tmp_path / f"{task}.onnx"
    assert main(("export", str(folder / task), "--input-size", "96x64", "--out", str(out))) == 0
    predictor = Predictor.open(out)
    network = checkpoints.trained_network(checkpoints.load(folder / task))
    picture = Image.open(photos_of(folder)[0]).resize((96, 64))
    picture.save(tmp_path / "photo.png")
    found = predictor(decode((tmp_path / "photo.png").read_bytes()))
    answer = answer_of(network, tmp_path / "photo.png")
    if isinstance(found, MapFound):
        assert (found.classes != answer["map"]).mean() < 0.002
    else:
        assert isinstance(found, ObjectsFound)
        own = found.found
        rows = zip(own.labels.tolist(), own.scores.tolist(), own.boxes.tolist(), strict=True)
        assert same_objects(list(rows), torchs_objects(answer))


def test_the_cards_program_finds_what_predict_finds(folder: Path) -> None:
    photos = photos_of(folder)[:5]
    answers = answers_of(program_of(folder / "detect.onnx.card.md"), folder, photos)
    predictor = Predictor.open(folder / "detect.onnx")
    names = predictor.metadata.classes_names or ()
    seen = 0
    for file, answer in zip(photos, answers, strict=True):
        lines = [line.split() for line in answer.splitlines()]
        own = [(names.index(one[0]), float(one[1]), [float(side) for side in one[2:]]) for one in lines]
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, ObjectsFound)
        boxes = found.found
        rows = zip(boxes.labels.tolist(), boxes.scores.tolist(), boxes.boxes.tolist(), strict=True)
        assert same_objects(own, list(rows)), file.name
        seen += len(own)
    assert seen > 5


def test_the_cards_program_counts_the_pixels_that_predict_counts(folder: Path) -> None:
    photos = photos_of(folder)[:5]
    answers = answers_of(program_of(folder / "segment.onnx.card.md"), folder, photos)
    predictor = Predictor.open(folder / "segment.onnx")
    for file, answer in zip(photos, answers, strict=True):
        counts = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in answer.splitlines()}
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, MapFound)
        own = np.bincount(found.classes.reshape(-1), minlength=3)
        assert list(counts) == ["none", "circle", "square"]
        assert abs(np.array(list(counts.values())) - own).sum() <= 0.002 * own.sum() + 2


@pytest.mark.parametrize("task", TASKS)
def test_onnx_and_openvino_agree_with_torch_and_the_file_passes_the_checker(folder: Path, task: str) -> None:
    onnx.checker.check_model(onnx.load(folder / f"{task}.onnx"), full_check=True)
    trained = checkpoints.load(folder / task)
    for model_format in dense.DENSE_FORMATS:
        pytest.importorskip({"onnx": "onnxruntime"}.get(model_format, model_format))
        made = dense.prepare(trained, size=(96, 64), model_format=model_format)
        assert made.model.parity_max_abs is not None and made.model.parity_max_abs < 1e-4


def test_openvinos_file_answers_as_onnxs(folder: Path, hwnas: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "segment.xml"
    answer = hwnas("export", str(folder / "segment"), "--format", "openvino", "--out", str(out))
    assert answer.code == 0, answer.err
    photo = decode(photos_of(folder)[1].read_bytes())
    own, other = (Predictor.open(file)(photo) for file in (out, folder / "segment.onnx"))
    assert isinstance(own, MapFound) and isinstance(other, MapFound)
    assert (own.classes != other.classes).mean() < 0.002


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_int8_keeps_the_metadata_and_says_what_it_costs(
    folder: Path, task: str, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    data, out = str(folder / "data"), tmp_path / "m.onnx"
    options = ("--precision", "int8", "--calibration", data, "--evaluate", data, "--out", str(out))
    answer = hwnas("export", str(folder / task), *options)
    assert answer.code == 0, answer.err
    assert "before) on 8 images" in answer.out
    assert b"QuantizeLinear" in out.read_bytes()
    about, plain = metadata_in(out), metadata_in(folder / f"{task}.onnx")
    assert about.precision == "int8"
    assert (about.preprocessing, about.postprocessing) == (plain.preprocessing, plain.postprocessing)
    card = json.loads((tmp_path / "m.onnx.card.json").read_text())
    exported = card["accuracy"]["exported"]
    leading = "box_ap50" if task == "detect" else "miou"
    lost = exported["scores_before_percent"][leading] - exported["scores_after_percent"][leading]
    assert lost < 15


def test_the_card_has_backbone_and_head_apart(folder: Path) -> None:
    card = json.loads((folder / "detect.onnx.card.json").read_text())
    assert card["params"] == card["parts"]["backbone"]["params"] + card["parts"]["head"]["params"]
    assert card["postprocessing"]["anchors_per_map"] == [24 * 24 * 9, 12 * 12 * 9, 36 * 9, 9 * 9, 4 * 9]
    (row,) = [one for one in card["latency"]["predicted"] if one["device"] == "cpu-x86"]
    assert row["ms"] == pytest.approx(row["backbone_ms"] + row["head_ms"], abs=1e-3)
    assert "estimated" in row["head"]


def test_macs_are_those_of_the_ops_and_a_hand_count_of_the_head(folder: Path) -> None:
    """At the size that the network is trained at, the backbone is the classifier's without its head."""
    trained = checkpoints.load(folder / "segment")
    cost = cost_of(trained, (64, 64))
    ops = [op for op in lower(trained.arch) if op.place != "head" and op.kind != "reuse"]
    assert {op.place: cost.macs_by_place[op.place] for op in ops} == {op.place: op.macs for op in ops}
    # As deployed, reuse attention has one depthwise convolution, and its last one sees no windows.
    (reuse,) = [op for op in lower(trained.arch) if op.kind == "reuse"]
    larger_kernels, padded = 12 * (9 - 1) * 9 * 49, (9 * 49 - 16 * 16) * 24 * 24
    assert cost.macs_by_place[reuse.place] == reuse.macs + larger_kernels - padded
    maps = ((24, 16), (32, 8), (48, 4))
    neck = sum(32 * width * side**2 + 9 * 32 * 32 * side**2 for width, side in maps)
    head = (9 * 32 * 8 + 8 * 3) * 16**2
    assert cost.head_macs == neck + head


def test_describe_says_what_a_detector_costs(folder: Path, hwnas: Callable[..., Any]) -> None:
    answer = hwnas("describe", str(folder / "detect"), "--device", "cpu-x86", "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    trained = checkpoints.load(folder / "detect")
    cost = cost_of(trained, (96, 96))
    assert document["macs"] == {"backbone": cost.backbone_macs, "head": cost.head_macs}
    expected = latency_on(LatencyTable.load("cpu-x86"), trained.arch, cost)
    assert document["latency"]["ms"] == pytest.approx(expected.ms, abs=1e-4)
    text = hwnas("describe", str(folder / "detect"), "--device", "cpu-x86").out
    assert "head" in text and "estimated from its MACs" in text


def test_the_predicted_backbone_is_the_tables_own_where_it_has_the_ops() -> None:
    """A backbone at a size that a table was built for is predicted as the table predicts those ops."""
    from hwnas.export.dense_cost import DenseCost
    from hwnas.space import preset

    table, arch = LatencyTable.load("cpu-x86"), preset("efficientvit-m0")
    side = arch.resolution
    found = latency_on(table, arch, DenseCost(side, side, 0, 0, {"head": 0}))
    ops = [op for op in lower(arch) if op.place != "head"]
    assert found.interpolated == 0 and found.head_ms == 0
    assert found.backbone_ms == pytest.approx(table.predict_ops(ops).value)


def test_a_detectors_file_is_measured_beside_its_prediction(
    folder: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("segment.onnx", "segment.onnx.card.json", "segment.onnx.card.md"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    out = str(tmp_path / "segment.onnx")
    answer = hwnas("measure", out, "--rounds", "1", "--device", "cpu-x86", "--allow-mismatch", "--json")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["networks"]
    card = json.loads((tmp_path / "segment.onnx.card.json").read_text())
    assert row["predicted_ms"] == card["latency"]["predicted"][0]["ms"]
    assert card["latency"]["measured"][0]["ms"] == row["measured_ms"] > 0
    refused = hwnas("measure", str(folder / "segment"))
    assert refused.code == 2 and "hwnas export" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "ncnn"], "onnx and openvino"),
        (["--format", "exported-program"], "onnx and openvino"),
        (["--batch", "2"], "one image"),
        (["--preprocess", "inside"], "for classifiers"),
        (
            ["--input-size", "100x96"],
            "of 16, the stride of the last stage, got '100x96'. Try 96x96",
        ),
        (["--input-size", "large"], "WIDTHxHEIGHT"),
    ],
)
def test_what_a_detector_cannot_be_exported_to_is_refused_and_nothing_written(
    folder: Path, arguments: list[str], message: str, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    named = arguments[1] if arguments[0] == "--format" else "onnx"
    out = tmp_path / f"m{FORMATS[named].suffix}"
    answer = hwnas("export", str(folder / "detect"), "--out", str(out), *arguments)
    assert answer.code == 2 and message in answer.err
    assert not list(tmp_path.iterdir())


def test_mask_r_cnn_and_broken_weights_are_refused(folder: Path) -> None:
    trained = checkpoints.load(folder / "segment")
    with pytest.raises(UsageError, match="Mask R-CNN is not exported"):
        other = dataclasses.replace(trained, task="instance")
        object.__setattr__(other, "state_dict", _instance_weights(other))
        dense.prepare(other, size=(96, 96))
    broken = dict(trained.state_dict)
    name = next(key for key in broken if key.endswith("head.4.bias"))
    broken[name] = torch.full_like(broken[name], float("nan"))
    with pytest.raises(HwnasError, match="no file was written"):
        dense.prepare(dataclasses.replace(trained, state_dict=broken), size=(96, 96))


def _instance_weights(trained: checkpoints.DenseCheckpoint) -> dict[str, torch.Tensor]:
    from hwnas.dense.networks import build_dense

    network = build_dense(trained.arch, "instance", len(trained.classes_names), trained.recipe)
    return dict(network.state_dict())


@pytest.mark.parametrize("task", TASKS)
def test_predict_draws_without_torch(folder: Path, task: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from hwnas.cli.app import main; print(main(sys.argv[1:]))"
    )
    photo = photos_of(folder)[2]
    arguments = ("predict", str(folder / f"{task}.onnx"), str(photo), "--out", str(tmp_path / "drawn"))
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0", done.stderr
    drawn = decode((tmp_path / "drawn" / f"{photo.stem}.png").read_bytes())
    before = decode(photo.read_bytes())
    assert drawn.size == before.size and drawn.tobytes() != before.tobytes()
