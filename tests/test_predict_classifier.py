"""A classifier's file says how it is used: `hwnas predict` and the card's program give torch's answers."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm.data
import torch
from photos import answers_of, photographs, program_of
from PIL import Image
from train_samples import ARCH, PLAIN_RECIPE, squares

from hwnas.cli.app import main
from hwnas.data.decoding import decode
from hwnas.data.preprocessing import for_classifier
from hwnas.errors import FileFormatError
from hwnas.export.metadata import metadata_in
from hwnas.export.prediction import ClassesFound, Predictor
from hwnas.train.checkpoint import load, trained_network
from hwnas.train.training import train

RECIPE = dataclasses.replace(PLAIN_RECIPE, epochs=40)
"""Long enough for answers that are no ties."""
FORMATS = ("onnx", "openvino", "ncnn", "exported-program")
ENDINGS = {"onnx": "m.onnx", "openvino": "m.xml", "ncnn": "n.param", "exported-program": "m.pt2"}


@pytest.fixture(scope="session")
def classifier(made_once: Callable[..., Path]) -> Path:
    """A folder: a training of three colours, its data, 100 photos, and its file in each format."""
    for package in ("openvino", "ncnn"):
        pytest.importorskip(package)

    def make(root: Path) -> None:
        train(ARCH, squares(root / "data"), RECIPE, root / "trained", name="colours")
        photographs(root / "photos", 100)
        for model_format in FORMATS:
            out = str(root / ENDINGS[model_format])
            assert main(("export", str(root / "trained"), "--format", model_format, "--out", out)) == 0

    return made_once("classifier", make)


@pytest.fixture(scope="session")
def torch_probabilities(classifier: Path) -> np.ndarray[Any, Any]:
    """(100, 3): what torch gives for the photos, prepared as in an evaluation by hwnas.data.loader."""
    trained = load(classifier / "trained")
    transform = timm.data.create_transform(
        trained.arch.resolution,
        is_training=False,
        crop_pct=trained.recipe.augmentation.eval_crop,
        interpolation="bicubic",
    )
    files = sorted((classifier / "photos").glob("*.jpg"))
    images = torch.stack([transform(decode(file.read_bytes())) for file in files])
    with torch.no_grad():
        found: np.ndarray[Any, Any] = trained_network(trained)(images).softmax(1).numpy()
    return found


@pytest.mark.parametrize(("side", "eval_crop"), [(224, 0.875), (64, 1.0), (96, 0.9), (37, 0.875)])
def test_preprocessing_is_the_evaluation_transform_bit_for_bit(
    side: int, eval_crop: float, tmp_path: Path
) -> None:
    transform = timm.data.create_transform(
        side, is_training=False, crop_pct=eval_crop, interpolation="bicubic"
    )
    own = for_classifier(side, eval_crop)
    for file in photographs(tmp_path, 25, seed=side):
        photo = decode(file.read_bytes())
        np.testing.assert_array_equal(own.prepared(photo).images[0], transform(photo).numpy())


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_file_of_every_format_says_how_it_is_used(classifier: Path, model_format: str) -> None:
    about = metadata_in(classifier / ENDINGS[model_format])
    trained = load(classifier / "trained")
    assert about.classes_names == ("blue", "green", "red") == trained.classes_names
    assert about.preprocessing == for_classifier(16, 1.0)
    assert about.arch == trained.arch and about.recipe == trained.recipe.to_dict()
    assert (about.task, about.model_format, about.precision) == ("classify", model_format, "fp32")
    assert about.input.shape == (1, 3, 16, 16)
    card = json.loads((classifier / f"{ENDINGS[model_format]}.card.json").read_text())
    assert card["preprocessing"] == about.preprocessing.to_dict()
    assert card["latency"]["predicted"] == list(about.predicted)


@pytest.mark.parametrize("model_format", FORMATS)
def test_predict_gives_torchs_probabilities_for_100_photos(
    classifier: Path, torch_probabilities: np.ndarray[Any, Any], model_format: str
) -> None:
    predictor = Predictor.open(classifier / ENDINGS[model_format])
    for file, expected in zip(
        sorted((classifier / "photos").glob("*.jpg")), torch_probabilities, strict=True
    ):
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, ClassesFound)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("model_format", "count"),
    [
        ("onnx", 100),
        pytest.param("exported-program", 6, marks=pytest.mark.slow),
        pytest.param("ncnn", 6, marks=pytest.mark.slow),
        pytest.param("openvino", 6, marks=pytest.mark.slow),
    ],
)
def test_the_program_in_the_card_gives_torchs_classes(
    classifier: Path, torch_probabilities: np.ndarray[Any, Any], model_format: str, count: int
) -> None:
    """It opens the file for every photo, which takes other runtimes than ONNX Runtime a while."""
    program = program_of(classifier / f"{ENDINGS[model_format]}.card.md")
    answers = answers_of(program, classifier, sorted((classifier / "photos").glob("*.jpg"))[:count])
    names = metadata_in(classifier / ENDINGS[model_format]).classes_names or ()
    expected = [names[best] for best in torch_probabilities[:count].argmax(1)]
    assert [answer.strip() for answer in answers] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("model_format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_preprocessing_inside_takes_pixels_and_gives_probabilities(
    classifier: Path,
    torch_probabilities: np.ndarray[Any, Any],
    model_format: str,
    hwnas: Callable[..., Any],
    tmp_path: Path,
) -> None:
    out = tmp_path / ENDINGS[model_format]
    data = str(classifier / "data")
    arguments = ("--format", model_format, "--preprocess", "inside", "--evaluate", data, "--out", str(out))
    answer = hwnas("export", str(classifier / "trained"), *arguments)
    assert answer.code == 0, answer.err
    assert "photos (1, 16, 16, 3) uint8" in answer.out and "the same class for 100.00 %" in answer.out
    photos = sorted((classifier / "photos").glob("*.jpg"))
    predictor = Predictor.open(out)
    for file, expected in zip(photos, torch_probabilities, strict=True):
        found = predictor(decode(file.read_bytes()))
        assert isinstance(found, ClassesFound)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    answers = answers_of(program_of(tmp_path / f"{out.name}.card.md"), tmp_path, photos[:10])
    names = predictor.metadata.classes_names or ()
    assert [answer.strip() for answer in answers] == [names[n] for n in torch_probabilities[:10].argmax(1)]


@pytest.mark.slow
def test_int8_carries_the_same_metadata_and_may_have_its_preprocessing_inside(
    classifier: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    data, photo = str(classifier / "data"), classifier / "photos" / "000.jpg"
    found = {}
    for preprocess in ("outside", "inside"):
        out = tmp_path / f"{preprocess}.onnx"
        options = ("--precision", "int8", "--calibration", data, "--preprocess", preprocess)
        answer = hwnas("export", str(classifier / "trained"), *options, "--out", str(out))
        assert answer.code == 0, answer.err
        about = metadata_in(out)
        assert (about.precision, about.preprocess) == ("int8", preprocess)
        assert about.classes_names == ("blue", "green", "red")
        found[preprocess] = Predictor.open(out)(decode(photo.read_bytes())).to_dict(3)
    assert found["outside"]["classes"][0]["name"] == found["inside"]["classes"][0]["name"]


@pytest.mark.parametrize("model_format", ["ncnn", "exported-program"])
def test_preprocessing_inside_is_refused_where_there_is_none(
    classifier: Path, model_format: str, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("--format", model_format, "--preprocess", "inside", "--out", str(tmp_path / "m.file"))
    answer = hwnas("export", str(classifier / "trained"), *arguments)
    assert answer.code == 2 and "onnx and openvino" in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model_format", ["onnx", "openvino", "ncnn"])
def test_predict_imports_no_torch(classifier: Path, model_format: str) -> None:
    code = (
        "import sys; from hwnas.cli.app import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'torchvision', 'timm', 'optuna'} & set(sys.modules); print(code, heavy)"
    )
    photo = str(classifier / "photos" / "000.jpg")
    arguments = ("predict", str(classifier / ENDINGS[model_format]), photo)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_predict_needs_no_onnx_package(classifier: Path) -> None:
    code = (
        "import sys; sys.modules['onnx'] = None; sys.modules['torch'] = None; "
        "from hwnas.cli.app import main; print(main(sys.argv[1:]))"
    )
    arguments = ("predict", str(classifier / "m.onnx"), str(classifier / "photos" / "000.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0", done.stderr


def test_predict_names_and_skips_what_cannot_be_read(
    classifier: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    good = str(classifier / "photos" / "001.jpg")
    arguments = (str(classifier / "m.onnx"), str(tmp_path / "broken.jpg"), str(tmp_path / "absent.jpg"), good)
    answer = hwnas("predict", *arguments, "--json", "--top", "2", "--out", str(tmp_path / "drawn"))
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert [Path(one["photo"]).name for one in document["unreadable"]] == ["broken.jpg", "absent.jpg"]
    (row,) = document["photos"]
    assert row["photo"] == good and len(row["classes"]) == 2
    assert row["classes"][0]["probability"] >= row["classes"][1]["probability"]
    with Image.open(row["drawn"]) as picture:
        assert picture.size == (row["width"], row["height"])
    assert "skipped" in answer.err and "not an image" in answer.err
    assert hwnas("predict", *arguments[:3]).code == 6


def test_a_file_without_metadata_is_refused_with_the_command_that_helps(
    classifier: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(classifier / "m.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    photo = str(classifier / "photos" / "000.jpg")
    answer = hwnas("predict", str(tmp_path / "bare.onnx"), photo)
    assert answer.code == 6 and "no hwnas metadata" in answer.err and "Export the model again" in answer.err
    for name, content in (("no.onnx", b"x"), ("no.xml", b"x"), ("no.pt2", b"x"), ("no.param", b"x")):
        (tmp_path / name).write_bytes(content)
        assert hwnas("predict", str(tmp_path / name), photo).code == 6, name
    assert hwnas("predict", str(tmp_path / "absent.onnx"), photo).code == 2
    assert hwnas("predict", str(tmp_path / "m.safetensors"), photo).code == 2


def test_metadata_of_another_version_or_rule_is_refused(classifier: Path) -> None:
    about = metadata_in(classifier / "m.onnx")
    newer = about.to_json().replace('"format_version": 1', '"format_version": 99')
    with pytest.raises(FileFormatError, match="format version 99"):
        type(about).from_json(newer, source="m.onnx")
    other = about.to_json().replace('"bicubic"', '"nearest"')
    with pytest.raises(FileFormatError, match="nearest"):
        type(about).from_json(other, source="m.onnx")
    assert type(about).from_json(about.to_json(), source="m.onnx") == about


def test_a_file_with_metadata_computes_what_it_did_without(classifier: Path) -> None:
    import onnx

    model = onnx.load(classifier / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    del model.metadata_props[:]
    images = {"images": np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)}
    given = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, images)[0]
        for source in (str(classifier / "m.onnx"), model.SerializeToString())
    ]
    np.testing.assert_array_equal(*given)


def test_a_file_with_its_preprocessing_inside_and_a_free_batch_takes_any_number_of_photos(
    classifier: Path, hwnas: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "m.onnx"
    arguments = ("--preprocess", "inside", "--batch", "dynamic", "--out", str(out))
    assert hwnas("export", str(classifier / "trained"), *arguments).code == 0
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (found,) = session.run(None, {"photos": np.zeros((count, 16, 16, 3), np.uint8)})
        np.testing.assert_allclose(found.sum(axis=1), np.ones(count), rtol=1e-5)
    photo = str(classifier / "photos" / "000.jpg")
    assert hwnas("predict", str(out), photo).code == 0
