"""Detectors and segmentation networks learn on a small COCO-format set, and resume to the same bits."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torchvision")
pytest.importorskip("timm")
pytest.importorskip("pycocotools")

import torch
from dense_samples import ARCH, RECIPE, changed, shapes

from hwnas.cli.app import main
from hwnas.dense.checkpoint import load, resume_point, save, trained_network
from hwnas.dense.networks import build_dense
from hwnas.dense.recipe import DenseRecipe, read_recipe, recipe_names
from hwnas.dense.trainer import DenseResult, evaluate_checkpoint, train
from hwnas.errors import FileFormatError, UsageError
from hwnas.nn import build
from hwnas.train.callbacks import FinishedEpoch, Progress, TrainingFailed
from hwnas.train.checkpoint import BEST, LAST, PREVIOUS

LEARNING: dict[str, dict[str, Any]] = {
    "detect": {"epochs": 3},
    "instance": {"epochs": 2, "limit": 64},
    "segment": {"epochs": 3, "lr": 3e-3},
}
"""By task, what differs from RECIPE where the test is whether it learns: updates of 4 images."""
TASKS = [
    "segment",
    pytest.param("detect", marks=pytest.mark.slow),
    pytest.param("instance", marks=pytest.mark.slow),
]
"""The fastest one always."""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes(tmp_path_factory.mktemp("shapes"), train=120, val=8)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For what needs no learning: 16 images to train on, 2 to evaluate on."""
    return shapes(tmp_path_factory.mktemp("few"), train=16, val=2)


class Listener:
    """Keeps what a training says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Progress) -> None: ...
    def epoch(self, record: FinishedEpoch) -> None: ...


def run(data: Path, out: Path, task: str = "detect", *, epochs: int = 2, **options: Any) -> DenseResult:
    fields = {name: options.pop(name) for name in list(options) if name in DenseRecipe.__slots__}
    recipe = dataclasses.replace(RECIPE, epochs=epochs, **fields)
    return train(ARCH, task, data, recipe, out, name="tiny", **options)


def same_weights(one: Path, other: Path) -> bool:
    first, second = load(one / LAST).state_dict, load(other / LAST).state_dict
    return sorted(first) == sorted(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("task", LEARNING)
def test_it_learns(data: Path, tmp_path: Path, task: str) -> None:
    result = run(data, tmp_path / "run", task, batch_size=4, lr_batch_size=4, **LEARNING[task])
    first, last = result.history[0], result.history[-1]
    assert last.loss < 0.7 * first.loss
    untrained = dataclasses.replace(
        load(tmp_path / "run"),
        state_dict=dict(build_dense(result.arch, task, 2, RECIPE).state_dict()),
    )
    before = evaluate_checkpoint(untrained, data).scores
    score = {"detect": "box_ap50", "instance": "mask_ap50", "segment": "miou"}[task]
    assert last.scores[score] > before[score] + 30, (before, last.scores)
    again = evaluate_checkpoint(load(tmp_path / "run"), data)
    assert again.scores == result.best.scores
    assert again.images == 8


@pytest.mark.parametrize("task", TASKS)
def test_resumed_equals_uninterrupted_bit_for_bit(few: Path, tmp_path: Path, task: str) -> None:
    options: dict[str, Any] = {"limit": 12, "ema_decay": 0.9, "scale_jitter": 0.2}
    run(few, tmp_path / "whole", task, epochs=2, **options)

    class Stop(Listener):
        def epoch(self, record: FinishedEpoch) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path / "parts", task, epochs=2, callback=Stop(), **options)
    assert resume_point(tmp_path / "parts").epoch == 1
    listener = Listener()
    result = run(few, tmp_path / "parts", task, epochs=2, resume=True, callback=listener, **options)
    assert "resuming after epoch 1 of 2" in listener.notes
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    whole = load(tmp_path / "whole" / LAST)
    assert [record.scores for record in whole.history] == [record.scores for record in result.history]


def test_a_training_leaves_its_files_and_a_damaged_last_falls_back(few: Path, tmp_path: Path) -> None:
    result = run(few, tmp_path / "run", "segment")
    names = {file.name for file in (tmp_path / "run").iterdir()}
    assert names == {LAST, PREVIOUS, BEST, "arch.yaml", "recipe.yaml", "history.jsonl", "result.json"}
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["task"] == "segment"
    assert document["scores_percent"] == dict(result.history[-1].scores)
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2
    content = bytearray((tmp_path / "run" / LAST).read_bytes())
    content[-7] ^= 1
    (tmp_path / "run" / LAST).write_bytes(content)
    found = resume_point(tmp_path / "run")
    assert found.epoch == 1 and "checksum" in found.skipped[0]


def test_a_changed_question_is_refused_with_the_difference(few: Path, tmp_path: Path) -> None:
    run(few, tmp_path / "run", "segment", epochs=1)
    with pytest.raises(UsageError, match="data task: segment there, detect requested"):
        run(few, tmp_path / "run", "detect", epochs=1, resume=True)
    with pytest.raises(UsageError, match=r"pyramid_width: 32 there, 16 requested"):
        run(few, tmp_path / "run", "segment", epochs=1, resume=True, pyramid_width=16)
    with pytest.raises(UsageError, match="already holds a training: add --resume"):
        run(few, tmp_path / "run", "segment", epochs=1)


def test_a_loss_that_is_no_number_fails_and_keeps_nothing(few: Path, tmp_path: Path) -> None:
    run(few, tmp_path / "first", "segment", epochs=1)
    spoilt = load(tmp_path / "first" / BEST)
    spoilt.state_dict["inner.backbone.body.network.stem.0.conv.weight"][0] = float("nan")
    save(spoilt, tmp_path / "spoilt.safetensors")
    with pytest.raises(TrainingFailed, match="training loss of epoch 1 must be finite, got nan"):
        run(few, tmp_path / "run", "segment", epochs=1, init=tmp_path / "spoilt.safetensors")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_classifier_gives_the_backbone_and_a_dense_training_everything(few: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from hwnas.train import checkpoint as classifiers
    from hwnas.train.recipe import Recipe

    classifier = build(ARCH.adapted(resolution=32, classes=5))
    torch.nn.init.constant_(classifier.get_submodule("stem")[0].conv.weight, 0.01)  # type: ignore[index]
    given = classifiers.Checkpoint(
        arch=classifier.arch,
        state_dict=dict(classifier.state_dict()),
        classes_names=tuple("abcde"),
        recipe=Recipe(epochs=1, batch_size=2, lr=1e-3, warmup_epochs=0.0),
        history=(),
    )
    classifiers.save(given, tmp_path / "classifier.safetensors")
    listener = Listener()
    options: dict[str, Any] = {"epochs": 1, "limit": 8, "lr": 1e-12, "min_lr": 0.0, "callback": listener}
    run(few, tmp_path / "first", "segment", init=tmp_path / "classifier.safetensors", **options)
    kept = load(tmp_path / "first").state_dict["inner.backbone.body.network.stem.0.conv.weight"]
    torch.testing.assert_close(kept, torch.full_like(kept, 0.01))
    assert any("sliced or resized" in note for note in listener.notes), listener.notes

    run(few, tmp_path / "second", "segment", init=tmp_path / "first", **options)
    count = len(load(tmp_path / "first").state_dict)
    assert f"{tmp_path / 'first'} (segment): {count} of {count} tensors taken" in listener.notes
    run(few, tmp_path / "third", "detect", init=tmp_path / "first", **options)
    one, other = (load(tmp_path / name).state_dict for name in ("second", "third"))
    path = "inner.backbone.fpn.inner_blocks.0.0.weight"
    torch.testing.assert_close(one[path], other[path])

    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(FileFormatError, match="neither a checkpoint of hwnas nor the weights of a preset"):
        run(few, tmp_path / "fourth", "segment", init=tmp_path / "other.safetensors", **options)


@pytest.mark.parametrize("task", TASKS)
def test_it_learns_in_bfloat16_and_every_loss_stays_a_number(few: Path, tmp_path: Path, task: str) -> None:
    result = run(few, tmp_path / task, task, precision="bf16")
    assert result.history[-1].loss < result.history[0].loss


def test_unusable_images_are_named_once_and_training_goes_on(tmp_path: Path) -> None:
    root = shapes(tmp_path / "data", train=16, val=4)
    (root / "train" / "images" / "0003.png").write_bytes(b"not a picture")
    (root / "val" / "images" / "0002.png").write_bytes(b"")
    changed(root / "train/annotations.json", lambda d: d["annotations"][0].update(bbox=[900, 1, 5, 5]))
    listener = Listener()
    run(root, tmp_path / "run", "detect", callback=listener)
    notes = [note for note in listener.notes if "left out" in note]
    assert len(notes) == 2, notes
    assert notes[0].startswith("1 annotations left out: annotation 1 in ")
    assert "train/images/0003.png (not an image)" in notes[1]
    assert "val/images/0002.png" in notes[1]


def test_the_recipes_that_ship_are_read_and_written_without_loss() -> None:
    assert recipe_names() == ("coco", "small")
    for name in recipe_names():
        recipe = read_recipe(name)
        assert DenseRecipe.from_yaml(recipe.to_yaml()) == recipe
    assert (read_recipe("coco").epochs, read_recipe("coco").longest_side) == (12, 1333)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"epochs": 0}, "epochs: must be from 1"),
        ({"pyramid_width": 30}, "pyramid_width: must be divisible by 8, got 30"),
        ({"image_size": 200}, "image_size: must be at most longest_side, got image_size=200"),
        ({"lr": float("nan")}, "lr: must be above 0"),
        ({"optimizer": "adam"}, "optimizer: must be one of adamw"),
        ({"anchor_scale": 0.0}, "anchor_scale: must be from 0.5"),
    ],
)
def test_a_wrong_field_is_named_with_the_rule(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        dataclasses.replace(RECIPE, **change)


# --- the command line ------------------------------------------------------------------------


@pytest.fixture
def inputs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data/, tiny.yaml and quick.yaml."""
    (tmp_path / "data").symlink_to(few)
    (tmp_path / "tiny.yaml").write_text(ARCH.to_yaml())
    (tmp_path / "quick.yaml").write_text(dataclasses.replace(RECIPE, epochs=1).to_yaml())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(line: str) -> int:
    return main(shlex.split(line))


def test_train_then_evaluate(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "dense train tiny.yaml --task segment --data data --recipe quick.yaml --limit 12 --accelerator cpu"
    assert command(f"{line} --json") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["schema"], document["out"], document["task"]) == (1, "trainings/tiny-1", "segment")
    assert "next: hwnas dense evaluate trainings/tiny-1 --data data" in printed.err
    assert "report: trainings/tiny-1/report.html" in printed.err
    assert "miou %" in Path("trainings/tiny-1/report.html").read_text(), "a column of the table of epochs"
    assert command("dense evaluate trainings/tiny-1 --data data --accelerator cpu --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores_percent"] == document["best_scores_percent"]
    assert found["images"] == 2
    assert command("dense evaluate trainings/tiny-1 --data data --accelerator cpu") == 0
    assert "tiny, segment, epoch 1: miou" in capsys.readouterr().out

    assert command("dense train tiny.yaml --task segment --data data --resume --accelerator cpu") == 0
    assert "resuming after epoch 1 of 1" in capsys.readouterr().err, "recipe and limit stay as they were"


def test_another_image_size_keeps_the_proportion_of_the_sides(inputs: Path) -> None:
    line = "dense train tiny.yaml --task segment --data data --recipe quick.yaml --limit 8 --accelerator cpu"
    assert command(f"{line} --image-size 32 --stem-stride 2 --set pyramid_width=16 --out out") == 0
    trained = load("out")
    assert (trained.recipe.image_size, trained.recipe.longest_side) == (32, 48)
    assert (trained.arch.resolution, trained.arch.stem.stride) == (32, 2)
    assert trained_network(trained).backbone.strides == (2, 4, 8)


@pytest.mark.parametrize(
    ("line", "code", "complaint"),
    [
        ("dense train tiny.yaml --task pose --data data", 2, "--task must be one of detect, instance"),
        ("dense train tiny.yaml --task detect --data nowhere", 2, "no such data folder: nowhere; expected"),
        ("dense train tiny.yaml --task detect --data data --recipe smal", 2, "Did you mean 'small'?"),
        ("dense train tiny.yaml --task detect --data data --set with=1", 2, "with: no such field"),
        ("dense train tiny.yaml --task detect --data data --limit 1", 2, "at least 2 images, got 1"),
        ("dense train tiny.yaml --data data", 2, "Missing option '--task'"),
        ("dense evaluate nowhere --data data", 2, "no such checkpoint: nowhere"),
        ("dense evaluate quick.yaml --data data", 6, "not a safetensors file"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    inputs: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, complaint: str
) -> None:
    assert command(line) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    (error,) = [text for text in printed.err.splitlines() if text.startswith("error: ")]
    assert complaint in error


def test_each_kind_of_checkpoint_says_that_it_is_not_the_other(
    few: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(few, inputs / "dense", "segment", epochs=1, limit=8)
    assert command("evaluate dense --data data") == 6
    said = capsys.readouterr().err
    assert "must be a file of the kind 'hwnas checkpoint', got 'hwnas dense checkpoint'" in said


def test_a_network_is_not_judged_on_other_classes(few: Path, tmp_path: Path) -> None:
    run(few, tmp_path / "run", "segment", epochs=1, limit=8)
    root = shapes(tmp_path / "data", train=4, val=4)
    for split in ("train", "val"):
        changed(root / split / "annotations.json", lambda d: d["categories"][0].update(name="ring"))
    with pytest.raises(UsageError, match="that the network knows, 'circle', 'square', got 'ring', 'square'"):
        evaluate_checkpoint(load(tmp_path / "run"), root)
