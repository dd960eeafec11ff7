"""The report of a training: what it shows is counted again here, from the images and the history."""

from __future__ import annotations

import base64
import io
import json
import resource
import shlex
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("timm")

import torch
from PIL import Image as PillowImage
from report_fakes import Page, loads_nothing, marks
from train_samples import ARCH, COLOURS, PLAIN_RECIPE, squares

from hwnas.cli.app import main
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError
from hwnas.report import write_training_report
from hwnas.report.predictions import FILE, Predictions
from hwnas.report.training import training_report
from hwnas.train.checkpoint import load, trained_network
from hwnas.train.history import read_history


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, where `hwnas train` has written trained/."""
    root = tmp_path_factory.mktemp("report")
    squares(root / "data")
    (root / "tiny.yaml").write_text(ARCH.to_yaml())
    (root / "quick.yaml").write_text(PLAIN_RECIPE.to_yaml())
    line = f"train {root}/tiny.yaml --data {root}/data --recipe {root}/quick.yaml --epochs 3"
    assert main(shlex.split(f"{line} --out {root}/trained --accelerator cpu")) == 0
    return root


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


def test_train_writes_a_report_that_loads_nothing(trained: Path) -> None:
    assert loads_nothing((trained / "trained" / "report.html").read_text())
    assert set(page_of(trained / "trained").specs()) == {"loss", "accuracy", "confusion"}


def test_the_curves_are_the_history(trained: Path) -> None:
    specs, history = page_of(trained / "trained").specs(), read_history(trained / "trained")
    (losses,) = marks(specs["loss"], "line")
    assert [(one["x"], one["y"]) for one in losses] == [
        (one["epoch"], float(f"{one['loss']:.6g}")) for one in history
    ]
    (scores,) = marks(specs["accuracy"], "line")
    assert [one["y"] for one in scores if one["curve"] == "top-1"] == [
        float(f"{one['top1_percent']:.6g}") for one in history
    ]


def test_the_confusion_matrix_is_counted_as_by_hand(trained: Path) -> None:
    checkpoint = load(trained / "trained")
    network = trained_network(checkpoint)
    expected: Counter[tuple[str, str]] = Counter()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for name in COLOURS:
        for file in sorted((trained / "data" / "test" / name).iterdir()):
            side = checkpoint.arch.resolution
            picture = (
                PillowImage.open(file).convert("RGB").resize((side, side), PillowImage.Resampling.BICUBIC)
            )
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(side, side, 3)
            image = ((pixels / 255 - mean) / std).permute(2, 0, 1)[None]
            with torch.inference_mode():
                expected[name, checkpoint.classes_names[int(network(image).argmax())]] += 1
    (cells,) = marks(page_of(trained / "trained").specs()["confusion"], "rect")
    assert {(one["row"], one["column"]): one["count"] for one in cells} == dict(expected)
    known = Predictions.read(trained / "trained")
    assert known is not None
    assert known.images == 24
    right = sum(count for (label, predicted), count in expected.items() if label == predicted)
    best = max(record["top1_percent"] for record in read_history(trained / "trained"))
    assert best == pytest.approx(100 * right / 24)


def test_samples_are_thumbnails_of_the_images_with_their_answers(trained: Path) -> None:
    page = page_of(trained / "trained")
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    known = Predictions.read(trained / "trained")
    assert known is not None
    assert len(sources) == len(known.drawn) + len(known.mistakes) >= 12
    assert all(one.label != one.predicted for one in known.mistakes)
    sure = [one.probability for one in known.mistakes]
    assert sure == sorted(sure, reverse=True)
    picture = PillowImage.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1])))
    assert picture.format == "JPEG"
    assert picture.size == (20, 20), "images smaller than a thumbnail keep their size"


def test_the_report_is_written_again_without_the_images_and_without_torch(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = trained / "trained" / "report.html"
    before = report.read_text()
    report.unlink()
    assert main(["report", str(trained / "trained")]) == 0
    assert report.read_text() == before
    assert capsys.readouterr().out.strip() == str(report)


def test_report_with_data_predicts_again(trained: Path) -> None:
    known = (trained / "trained" / FILE).read_text()
    (trained / "trained" / FILE).write_text("{}")
    with pytest.raises(FileFormatError, match=FILE):
        training_report(trained / "trained")
    assert main(shlex.split(f"report {trained}/trained --data {trained}/data")) == 0
    assert json.loads((trained / "trained" / FILE).read_text()) == json.loads(known)


def test_the_conclusion_says_what_the_epochs_and_images_gave(trained: Path) -> None:
    model = training_report(trained / "trained")
    history = read_history(trained / "trained")
    best = max(record["top1_percent"] for record in history)
    assert f"top-1 is {best:.2f} % after epoch" in model.conclusion[0]
    assert any("95 % binomial interval" in text for text in model.conclusion)


def test_the_charts_become_files(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("the renderer needs unlimited address space (ulimit -v unlimited)")
    assert main(shlex.split(f"report {trained}/trained --plots {tmp_path}/figures")) == 0
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("loss", "accuracy", "confusion") for kind in ("png", "svg")
    }


def test_data_of_other_classes_is_refused(trained: Path, tmp_path: Path) -> None:
    other = squares(tmp_path / "other", train=2, test=2)
    for split in ("train", "test"):
        (other / split / "red").rename(other / split / "violet")
    with pytest.raises(UsageError, match="violet"):
        write_training_report(trained / "trained", open_images(other))


def test_data_for_the_report_of_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--data", str(tmp_path)]) == 2
    assert "--data" in capsys.readouterr().err


def test_a_training_that_is_not_finished_has_a_report_of_its_epochs(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "begun"
    folder.mkdir()
    for name in ("recipe.yaml", "arch.yaml"):
        (folder / name).write_text((trained / "trained" / name).read_text())
    lines = (trained / "trained" / "history.jsonl").read_text().splitlines()
    (folder / "history.jsonl").write_text("\n".join(lines[:2]) + "\n")
    write_training_report(folder)
    assert "Not finished: 2 of 3 epochs are done." in page_of(folder).text


def test_the_report_of_a_thousand_classes_lists_pairs_instead_of_a_matrix(
    trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("recipe.yaml", "history.jsonl"):
        (folder / name).write_text((trained / "trained" / name).read_text())
    classes = tuple(f"class {number}" for number in range(1000))
    Predictions("val", 3, classes, ((0, 0, 40), (0, 1, 7), (999, 0, 9)), (), ()).write(folder)
    write_training_report(folder)
    page = page_of(folder)
    assert "confusion" not in page.specs()
    model = training_report(folder)
    assert model.pairs is not None
    assert model.pairs.rows[0] == ("class 999", "class 0", "9")
    assert "'class 999' taken for 'class 0', 9 images" in page.text
