"""Hard distillation: the teacher is heard, and what is kept is the architecture that was asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("timm")

import timm
import torch
from safetensors.torch import save_file
from test_train_loop import Watcher, assert_same_training
from torch import nn
from train_samples import ARCH, PLAIN_RECIPE, squares

from hwnas.errors import FileFormatError, UsageError
from hwnas.nn import build
from hwnas.space.presets import preset
from hwnas.train import distillation
from hwnas.train.checkpoint import load, trained_network
from hwnas.train.distillation import Teacher, load_teacher
from hwnas.train.training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(ARCH, data, dataclasses.replace(PLAIN_RECIPE, epochs=1), out)
    return out


@pytest.mark.parametrize("arch", [ARCH, preset("elevit-l").adapted(resolution=64)], ids=["linear", "dual"])
def test_both_heads_become_their_mean(arch: object) -> None:
    network = build(arch)  # type: ignore[arg-type]
    distillation.give_second_head(network)
    for parameter in network.head.parameters():
        nn.init.normal_(parameter)
    images = torch.randn(2, 3, network.arch.resolution, network.arch.resolution)
    assert network.train()(images).shape == (2, 2, network.arch.classes)
    alone = build(network.arch)
    alone.load_state_dict(distillation.merged(dict(network.state_dict())))
    with torch.inference_mode():
        found, expected = alone.eval()(images), network.eval()(images)
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_loss_is_equation_3_of_deit() -> None:
    logits, labels, answers = (
        torch.randn(5, 2, 3),
        torch.tensor([0, 1, 2, 0, 1]),
        torch.tensor([2, 2, 0, 1, 1]),
    )
    found = distillation.loss(logits, labels, answers, nn.CrossEntropyLoss(), 0.5)
    chances = logits.log_softmax(-1)
    expected = -sum(0.5 * chances[i, 0, labels[i]] + 0.5 * chances[i, 1, answers[i]] for i in range(5)) / 5
    assert torch.allclose(found, torch.as_tensor(expected))


def test_the_teacher_is_heard(data: Path, tmp_path: Path) -> None:
    """A teacher that finds class 1 in everything, and has all of the loss, teaches just that."""
    network = build(ARCH.adapted(classes=3))
    nn.init.zeros_(network.head.linear.weight)
    with torch.no_grad():
        network.head.linear.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
    out = tmp_path / "teacher"
    train(
        ARCH, data, dataclasses.replace(PLAIN_RECIPE, epochs=1, lr=1e-12, min_lr=0.0, ema_decay=0.0), out,
        builder=lambda _: network,
    )  # fmt: skip
    recipe = dataclasses.replace(
        PLAIN_RECIPE,
        epochs=8,
        lr=0.03,
        teacher=str(out),
        teacher_share=1.0,
        label_smoothing=0.0,
        ema_decay=0.0,
    )
    result = train(ARCH, data, recipe, tmp_path / "run")
    assert result.history[-1].loss < result.history[0].loss / 2
    assert result.history[-1].top1_percent == pytest.approx(100 / 3, abs=5)


def test_a_distilled_training_resumes_to_the_same_bits(data: Path, tmp_path: Path, teacher: Path) -> None:
    recipe = dataclasses.replace(PLAIN_RECIPE, epochs=2, teacher=str(teacher))
    train(ARCH, data, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, recipe, tmp_path / "cut", callback=Watcher(interrupt_in_epoch=2))
    train(ARCH, data, recipe, tmp_path / "cut", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")
    kept = load(tmp_path / "whole")
    assert sorted(kept.state_dict) == sorted(build(kept.arch).state_dict())
    trained_network(kept)


def test_a_teacher_gets_the_size_and_the_normalisation_it_wants() -> None:
    seen: list[torch.Tensor] = []

    class Seeing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return torch.zeros(len(images), 4)

    white = (torch.ones(3) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    answers = Teacher(Seeing(), 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(
        white.view(1, 3, 1, 1).expand(2, 3, 4, 4)
    )
    assert answers.tolist() == [0, 0]
    assert torch.allclose(seen[0], torch.ones(2, 3, 8, 8), atol=1e-5)


def test_a_teacher_of_timm_comes_from_a_file(tmp_path: Path) -> None:
    theirs = timm.create_model("shvit_s1", num_classes=3).eval()
    save_file(theirs.state_dict(), tmp_path / "t.safetensors")
    images = torch.randn(2, 3, 224, 224)
    teacher = load_teacher(f"timm:shvit_s1:{tmp_path / 't.safetensors'}", ("a", "b", "c"))
    with torch.inference_mode():
        assert torch.equal(teacher(images), theirs(images).argmax(1))


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(UsageError, match="must have the classes of the training data"):
        load_teacher(str(teacher), ("cat", "dog"))
    with pytest.raises(UsageError, match="timm has no network 'nothing'"):
        load_teacher("timm:nothing", ("cat", "dog"))
    torch.save({}, tmp_path / "t.safetensors")
    with pytest.raises(FileFormatError, match="not a safetensors file"):
        load_teacher(f"timm:shvit_s1:{tmp_path / 't.safetensors'}", ("cat", "dog"))
