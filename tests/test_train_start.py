"""Where a training starts: published weights exactly, slices of larger networks, biases resized."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("timm")

import timm
import torch
from safetensors.torch import save_file
from train_samples import ARCH, PLAIN_RECIPE, squares

from hwnas.errors import FileFormatError, UsageError
from hwnas.nn import build
from hwnas.space.arch import CascadedGroup, Stage
from hwnas.space.presets import preset
from hwnas.train.checkpoint import load
from hwnas.train.init_weights import donor_preset, find_start, fitted, resized_bias
from hwnas.train.training import train


def test_a_file_with_timms_names_gives_timms_logits(tmp_path: Path) -> None:
    theirs = timm.create_model("shvit_s1", num_classes=7).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    arch = preset("shvit-s1").adapted(classes=7)
    start = find_start(str(tmp_path / "model.safetensors"), arch)
    assert "(shvit-s1)" in start.source
    network = build(arch)
    network.load_state_dict(fitted(network.state_dict(), start.weights))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(network.eval()(images), theirs(images), atol=1e-4)


def test_a_bias_keeps_its_nearest_and_farthest_distance() -> None:
    size, larger = 4, 7
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    plane = (0.5 * row - 0.25 * column).reshape(1, -1)  # a plane is what bicubic keeps at the corners
    found = resized_bias(plane, larger).view(larger, larger)
    expected = torch.tensor([[0.0, -0.75], [1.5, 0.75]])
    assert torch.allclose(found[:: larger - 1, :: larger - 1], expected, atol=1e-5)
    assert torch.equal(resized_bias(plane, size), plane)


def test_another_image_size_goes_on_with_all_weights() -> None:
    small = preset("efficientvit-m0")
    given, own = build(small).state_dict(), build(small.adapted(resolution=512)).state_dict()
    taken = fitted(own, given)
    assert set(taken) == set(own)
    resized = [name for name, weight in taken.items() if given[name].shape != weight.shape]
    assert resized and all(name.endswith("bias.table") for name in resized)
    assert {taken[name].shape[1] for name in resized} == {49}, "the last stage had 16 distances at 224 px"


def test_a_narrower_network_gets_the_leading_channels() -> None:
    wide = preset("uniform-s")
    narrow = dataclasses.replace(
        wide, stages=tuple(dataclasses.replace(stage, width=stage.width // 2) for stage in wide.stages[:1])
    )
    given, own = build(wide).state_dict(), build(narrow).state_dict()
    taken = fitted(own, given)
    name = next(key for key in own if key.endswith("query_key.conv.weight"))
    wanted, source = taken[name], given[name]  # (C / 2, C, 1, 1): Q above K
    half, whole = wanted.shape[0] // 2, source.shape[0] // 2
    assert torch.equal(wanted[:half], source[:half, : wanted.shape[1]])
    assert torch.equal(wanted[half:], source[whole : whole + half, : wanted.shape[1]])
    build(narrow).load_state_dict(taken, strict=False)


def test_a_smaller_kernel_is_the_middle_of_a_larger_one() -> None:
    given = {"w": torch.arange(49.0).view(1, 1, 7, 7)}
    found = fitted({"w": torch.zeros(1, 1, 3, 3)}, given)["w"]
    assert torch.equal(found[0, 0], torch.tensor([[16.0, 17, 18], [23, 24, 25], [30, 31, 32]]))
    assert fitted({"w": torch.zeros(1, 1, 9, 9)}, given) == {}, "nothing is larger than what is given"


def test_the_preset_that_gives_the_most_is_chosen() -> None:
    assert donor_preset(preset("efficientvit-m2").adapted(classes=10)) == "efficientvit-m2"
    block = CascadedGroup(heads=4, kernels=(5, 5, 5, 5))
    searched = dataclasses.replace(
        preset("efficientvit-m0"),
        stages=(Stage(width=64, blocks=(block,)), Stage(width=120, blocks=(block,))),
    )
    assert donor_preset(searched).startswith("efficientvit-m")


def test_what_is_no_weights_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(FileFormatError, match="neither a checkpoint of hwnas nor the weights of a preset"):
        find_start(str(tmp_path / "x.safetensors"), ARCH)
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(FileFormatError, match="pickle"):
        find_start(str(tmp_path / "x.pth"), ARCH)
    with pytest.raises(UsageError, match="timm has weights of EfficientViT and SHViT only"):
        find_start("uniform-t", ARCH)


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UsageError, match=r"cannot be fetched: no route to host: .*--init FILE"):
        find_start("shvit-s1", ARCH)


def test_training_goes_on_at_a_higher_resolution(tmp_path: Path) -> None:
    data = squares(tmp_path / "data")
    recipe = dataclasses.replace(PLAIN_RECIPE, epochs=1, ema_decay=0.0)
    train(ARCH, data, recipe, tmp_path / "low")
    still = dataclasses.replace(recipe, lr=1e-9, warmup_epochs=0.0, min_lr=0.0, image_size=24)
    train(ARCH, data, still, tmp_path / "high", init=tmp_path / "low")
    low, high = load(tmp_path / "low").state_dict, load(tmp_path / "high").state_dict
    assert all(
        torch.allclose(high[name], low[name], atol=1e-5)
        for name in low
        if name.endswith("weight") and low[name].shape == high[name].shape
    )
    (name,) = (name for name in low if name.endswith("bias.table"))
    assert torch.allclose(high[name], resized_bias(low[name], 3), atol=1e-5)
