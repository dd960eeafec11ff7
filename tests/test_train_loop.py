"""Training: it learns, it goes on after any interruption with the same bits, it fails loudly."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("timm")

import torch
from torch import Tensor, nn
from train_samples import ARCH, PLAIN_RECIPE, RECIPE, packed, squares

from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError
from hwnas.space import ArchSpec
from hwnas.train import checkpoint as checkpoints
from hwnas.train.checkpoint import EpochRecord, load, resume_point
from hwnas.train.evaluation import evaluate_checkpoint
from hwnas.train.training import Progress, TrainingFailed, TrainingResult, train


class Watcher:
    """Remembers what it is told; stops the training in the middle of an epoch if asked to."""

    def __init__(self, interrupt_in_epoch: int | None = None) -> None:
        self.notes: list[str] = []
        self.records: list[EpochRecord] = []
        self.progress: list[Progress] = []
        self.interrupt_in_epoch = interrupt_in_epoch

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Progress) -> None:
        self.progress.append(progress)
        if progress.epoch == self.interrupt_in_epoch and progress.step == 2:
            raise KeyboardInterrupt

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Three epochs with everything random on."""
    return train(ARCH, data, RECIPE, tmp_path_factory.mktemp("whole") / "run", name="tiny")


def assert_same_training(one: Path, other: Path) -> None:
    """Weights, moving average, optimiser and history (but for the seconds), bit for bit."""
    a, b = resume_point(one), resume_point(other)
    assert a.training is not None and b.training is not None
    for x, y in ((a.state_dict, b.state_dict), (a.training.model, b.training.model)):
        assert sorted(x) == sorted(y)
        assert all(torch.equal(x[name], y[name]) for name in x)
    for index, slots in a.training.optimizer["state"].items():
        assert all(torch.equal(slots[name], b.training.optimizer["state"][index][name]) for name in slots)
    assert a.training.updates == b.training.updates
    assert [dataclasses.replace(record, seconds=0) for record in a.history] == (
        [dataclasses.replace(record, seconds=0) for record in b.history]
    )


def test_it_learns_what_is_easy(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", train=40, test=10)
    watcher = Watcher()
    result = train(ARCH, data, PLAIN_RECIPE, tmp_path / "run", name="tiny", callback=watcher)
    assert result.history[-1].top1_percent >= 90.0, result.history  # chance is 33.3
    assert result.history[-1].loss < result.history[0].loss
    assert [record.epoch for record in watcher.records] == [1, 2, 3, 4, 5, 6]
    assert watcher.progress[-1].seconds_left == 0
    assert result.arch.classes == 3

    again = evaluate_checkpoint(load(tmp_path / "run"), open_images(data))
    assert again.top1_percent == result.best.top1_percent
    assert (again.images, again.top5_percent) == (30, 100.0)


def test_a_training_leaves_its_files(uninterrupted: TrainingResult) -> None:
    out = uninterrupted.out
    assert ArchSpec.from_yaml((out / "arch.yaml").read_text()) == uninterrupted.arch
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert sorted(lines[0]) == ["epoch", "loss", "lr", "seconds", "top1_percent", "top5_percent"]
    document = json.loads((out / "result.json").read_text())
    assert document["schema"] == 1
    assert document["id"] == uninterrupted.arch.id
    assert document["history"] == lines
    assert document["recipe"] == RECIPE.to_dict()
    assert document["data"]["train_images"] == 36
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_resumed_equals_uninterrupted_bit_for_bit(
    data: Path, tmp_path: Path, uninterrupted: TrainingResult, epoch: int
) -> None:
    """Fault 45."""
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, RECIPE, tmp_path, name="tiny", callback=Watcher(interrupt_in_epoch=epoch))
    watcher = Watcher()
    train(ARCH, data, RECIPE, tmp_path, name="tiny", resume=True, callback=watcher)
    assert [record.epoch for record in watcher.records] == list(range(epoch, 4))
    assert_same_training(tmp_path, uninterrupted.out)


def test_without_a_moving_average_too(data: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, ema_decay=0.0, epochs=2, mixup_alpha=0.0, cutmix_alpha=0.0)
    train(ARCH, data, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, recipe, tmp_path / "cut", callback=Watcher(interrupt_in_epoch=2))
    train(ARCH, data, recipe, tmp_path / "cut", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def test_an_archive_and_worker_processes_train_the_same_network(
    data: Path, tmp_path: Path, uninterrupted: TrainingResult
) -> None:
    archive = packed(data, tmp_path / "data.tar.xz", "w:xz")
    train(ARCH, archive, dataclasses.replace(RECIPE, workers=1), tmp_path / "run")
    assert_same_training(tmp_path / "run", uninterrupted.out)


@pytest.mark.slow
def test_a_kill_at_any_moment_is_survived(data: Path, tmp_path: Path, uninterrupted: TrainingResult) -> None:
    """SIGKILL (fault 24): once between the first and the last epoch, then resumed to the same bits."""
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        sys.path[:0] = sys.argv[3:]
        from test_train_loop import Watcher
        from train_samples import ARCH, RECIPE
        from hwnas.train.training import train
        class Printing(Watcher):
            def epoch(self, record):
                print(record.epoch, flush=True)
        train(ARCH, Path(sys.argv[1]), RECIPE, Path(sys.argv[2]), name="tiny", callback=Printing())
    """)
    out = tmp_path / "run"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", script, str(data), str(out), *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert resume_point(out).epoch in (1, 2, 3)
    train(ARCH, data, RECIPE, out, name="tiny", resume=True)
    assert_same_training(out, uninterrupted.out)


def test_resuming_from_the_previous_checkpoint_ends_the_same(
    data: Path, tmp_path: Path, uninterrupted: TrainingResult
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, RECIPE, tmp_path, name="tiny", callback=Watcher(interrupt_in_epoch=3))
    last = tmp_path / checkpoints.LAST
    last.write_bytes(last.read_bytes()[:-100])
    watcher = Watcher()
    train(ARCH, data, RECIPE, tmp_path, name="tiny", resume=True, callback=watcher)
    assert [record.epoch for record in watcher.records] == [2, 3]
    assert "continuing from the checkpoint before it" in watcher.notes[0]
    assert_same_training(tmp_path, uninterrupted.out)
    assert (tmp_path / f"{checkpoints.LAST}.damaged").exists(), "a damaged file must not become `previous`"


def test_a_finished_training_resumes_to_itself(data: Path, uninterrupted: TrainingResult) -> None:
    watcher = Watcher()
    result = train(ARCH, data, RECIPE, uninterrupted.out, name="tiny", resume=True, callback=watcher)
    assert watcher.records == []
    assert result.history == uninterrupted.history


def test_a_changed_question_is_refused_with_the_difference(
    data: Path, tmp_path: Path, uninterrupted: TrainingResult
) -> None:
    out = uninterrupted.out
    with pytest.raises(UsageError, match="already holds a training: add --resume"):
        train(ARCH, data, RECIPE, out)
    with pytest.raises(UsageError, match=r"lr: 0\.003 there, 0\.5 requested"):
        train(ARCH, data, dataclasses.replace(RECIPE, lr=0.5), out, resume=True)
    with pytest.raises(UsageError, match="architecture: "):
        train(ARCH.adapted(resolution=32), data, RECIPE, out, resume=True)
    other = squares(tmp_path / "other", train=11)
    with pytest.raises(UsageError, match="data train_images: 36 there, 33 requested"):
        train(ARCH, other, RECIPE, out, resume=True)
    assert train(ARCH, data, dataclasses.replace(RECIPE, workers=1), out, resume=True).history


class _Exploding(nn.Module):
    """A linear classifier whose weights become infinite after some updates."""

    def __init__(self, arch: ArchSpec, healthy_steps: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3, arch.classes)
        self.healthy_steps = healthy_steps
        self.steps = 0

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        factor = float("inf") if self.steps > self.healthy_steps else 1.0
        logits: Tensor = self.linear(images.mean((2, 3))) * factor
        return logits


@pytest.mark.parametrize(("healthy_steps", "epoch"), [(0, 1), (4, 2), (6, 3)])
def test_a_loss_that_is_no_number_fails_and_is_never_the_best(
    data: Path, tmp_path: Path, healthy_steps: int, epoch: int
) -> None:
    """Fault 44."""
    recipe = dataclasses.replace(RECIPE, ema_decay=0.0)  # 3 updates an epoch
    with pytest.raises(TrainingFailed, match=f"loss of epoch {epoch} must be finite, got nan"):
        train(ARCH, data, recipe, tmp_path, builder=lambda arch: _Exploding(arch, healthy_steps))
    assert not (tmp_path / "result.json").exists()
    if epoch == 1:
        assert not list(tmp_path.glob("*.safetensors"))
    else:
        assert resume_point(tmp_path).epoch == epoch - 1
        assert load(tmp_path).epoch <= epoch - 1


def test_unreadable_images_are_named_once_and_training_goes_on(data: Path, tmp_path: Path) -> None:
    root = squares(tmp_path / "data")
    (root / "train" / "red" / "001.jpg").write_bytes(b"")
    (root / "train" / "red" / "002.jpg").write_bytes(b"not a picture")
    (root / "test" / "blue" / "003.jpg").write_bytes(b"\xff\xd8 nor this")
    watcher = Watcher()
    train(ARCH, root, dataclasses.replace(RECIPE, epochs=2, batch_size=7), tmp_path / "run", callback=watcher)
    assert watcher.notes[0] == "1 files left out: train/red/001.jpg (0 bytes)"
    named = " ".join(watcher.notes)
    assert "unreadable images left out: " in named
    assert named.count("train/red/002.jpg (not an image)") == 1
    assert named.count("test/blue/003.jpg (not an image)") == 1


def test_a_set_of_unreadable_images_only_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                (tmp_path / split / name / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match=r"none of the 4 training images could be decoded, 'train/"):
        train(ARCH, tmp_path, dataclasses.replace(RECIPE, batch_size=4), tmp_path / "run")


def test_weights_of_another_training_are_taken_where_they_fit(
    data: Path, tmp_path: Path, uninterrupted: TrainingResult
) -> None:
    watcher = Watcher()
    recipe = dataclasses.replace(PLAIN_RECIPE, epochs=1, lr=1e-9, warmup_epochs=0.0, min_lr=0.0)
    result = train(ARCH, data, recipe, tmp_path / "a", init=uninterrupted.out, callback=watcher)
    best = load(uninterrupted.out)
    kept = load(result.out).state_dict
    assert all(
        torch.allclose(kept[name], best.state_dict[name], atol=1e-6)
        for name in kept
        if name.endswith(".weight")
    )
    assert "tensors taken" in watcher.notes[0]
    wider = dataclasses.replace(ARCH, stages=(dataclasses.replace(ARCH.stages[0], width=24), ARCH.stages[1]))
    train(wider, data, recipe, tmp_path / "b", init=uninterrupted.out, callback=watcher)
    assert "freshly initialised" in watcher.notes[-1]
    with pytest.raises(UsageError, match=r"not one of its .* tensors fits"):
        train(
            ARCH,
            data,
            recipe,
            tmp_path / "c",
            init=uninterrupted.out,
            builder=lambda arch: _Exploding(arch, 99),
        )


def test_biases_and_norms_have_no_weight_decay() -> None:
    from hwnas.nn import build
    from hwnas.train.optim import decay_groups

    network = build(ARCH.adapted(classes=3))
    decayed, plain = decay_groups(network, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    without = [names[id(parameter)] for parameter in plain["params"]]
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert any("attention" in name and name.endswith("table") for name in without)
    assert len(decayed["params"]) + len(without) == len(names)


def test_an_unwritable_folder_is_found_before_the_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot be written"):
        train(ARCH, data, RECIPE, tmp_path / "file" / "run")
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(UsageError, match="cannot be written"):
            train(ARCH, data, RECIPE, tmp_path / "run")
        tmp_path.chmod(0o700)
