"""The published networks give the published implementations' numbers, for the same weights."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_fill
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import FileFormatError, UsageError
from hwnas.nn import Network, build, load_published
from hwnas.nn.attention.cascaded_group import CascadedGroupAttention
from hwnas.nn.attention.single_head import SingleHeadAttention
from hwnas.nn.published import published_key
from hwnas.space import preset_info, preset_names

FOLDER = Path(__file__).parent / "golden"
PRESETS = [
    "efficientvit-m0",
    "efficientvit-m1",
    "efficientvit-m2",
    "efficientvit-m4",
    "elevit-l",
    "shvit-s1",
    "shvit-s2",
    "uniform-l",
    "uniform-m",
    "uniform-t",
]


@functools.cache
def fixture(preset: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{preset}.json").read_text())
    return loaded


@functools.cache
def _filled(preset: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(golden_fill.weight(key, shape)) for key, shape in fixture(preset)["state"]}


def published_state(preset: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {key: w.to(dtype) if w.is_floating_point() else w for key, w in _filled(preset).items()}


@functools.cache
def images(preset: str) -> Tensor:
    asked = fixture(preset)["input"]
    return torch.from_numpy(golden_fill.images(asked["batch"], asked["size"]))


def run(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(x)
    return logits


@functools.cache
def right_logits(preset: str) -> Tensor:
    return run(load_published(preset, published_state(preset)), images(preset))


def outputs_by_fixture_name(network: Network) -> dict[str, Tensor]:
    """The outputs that `network` leaves behind when it runs next, by the fixture's names."""
    found: dict[str, Tensor] = {}
    places = [op.place for op in network.ops]
    elevit = network.arch.stem.kind == "conv-pool"
    ends = {"stem" if elevit else "patch_embed": "stem"}
    for index in range(len(network.arch.stages)):
        if elevit and index:
            ends[f"embed{index}"] = f"stages.{index}.downsample"
        elif not elevit:
            ends[f"stages.{index}"] = [place for place in places if place.startswith(f"stages.{index}.")][-1]
    for name, place in ends.items():

        def keep(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
            found[name] = output

        network.get_submodule(place).register_forward_hook(keep)
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_the_network_gives_the_published_logits_in_float64(preset: str) -> None:
    golden = fixture(preset)
    network = load_published(preset, published_state(preset))
    features = outputs_by_fixture_name(network)
    logits = run(network, images(preset)).numpy()

    assert sum(weight.numel() for weight in network.parameters()) == golden["params"]
    np.testing.assert_allclose(logits[:, :16], golden["logits"], rtol=0, atol=1e-8)
    for row, checksum in zip(logits, golden["checksum"], strict=True):
        atol = 1e-11 * checksum["abssum"]
        assert row.argmax() == checksum["argmax"]
        assert row.sum() == pytest.approx(checksum["sum"], rel=0, abs=atol)
        assert np.abs(row).sum() == pytest.approx(checksum["abssum"], rel=0, abs=atol)
        assert row @ golden_fill.signs(len(row)) == pytest.approx(checksum["dot"], rel=0, abs=atol)
    assert list(features) == list(golden["features"])
    for name, expected in golden["features"].items():
        values = features[name].numpy().reshape(-1)
        assert list(features[name].shape) == expected["shape"]
        np.testing.assert_allclose(values[:8], expected["first8"], rtol=0, atol=1e-8)
        assert values.mean() == pytest.approx(expected["mean"], rel=0, abs=1e-8)
        assert values.std() == pytest.approx(expected["std"], rel=0, abs=1e-8)
        dot = values @ golden_fill.signs(len(values))
        assert dot == pytest.approx(expected["dot"], rel=0, abs=1e-11 * np.abs(values).sum())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_network_gives_the_published_logits_in_float32(preset: str) -> None:
    network = load_published(preset, published_state(preset, torch.float32))
    logits = run(network, images(preset).float())
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits[:, :16].numpy(), fixture(preset)["logits"], rtol=0, atol=1e-3)


# --- a mistake would show ------------------------------------------------------------------------

Change = Callable[[Network, dict[str, Tensor]], None]


def bias_zeroed(_network: Network, state: dict[str, Tensor]) -> None:
    for key, value in state.items():
        if key.endswith("bias.table"):
            value.zero_()


def bias_transposed(_network: Network, state: dict[str, Tensor]) -> None:
    for key, value in state.items():
        if key.endswith("bias.table"):
            side = int(value.shape[1] ** 0.5)
            value.copy_(value.view(-1, side, side).mT.reshape(value.shape))


def scale_doubled(network: Network, _state: dict[str, Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, CascadedGroupAttention | SingleHeadAttention):
            module.scale *= 2


def query_convolution_skipped(network: Network, _state: dict[str, Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, CascadedGroupAttention):
            module.query_local = nn.ModuleList(nn.Identity() for _ in module.query_local)


def relu_before_the_projection_removed(network: Network, _state: dict[str, Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, CascadedGroupAttention | SingleHeadAttention):
            module.output[0] = nn.Identity()


def batch_norm_epsilon(network: Network, _state: dict[str, Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = 1e-3


@pytest.mark.parametrize(
    ("preset", "change", "moves"),
    [
        # how far each mistake moves a logit, as measured on the published implementations
        ("efficientvit-m0", bias_zeroed, 4.4),
        ("efficientvit-m0", bias_transposed, 4.4),
        ("efficientvit-m0", scale_doubled, 8),
        ("efficientvit-m0", query_convolution_skipped, 18),
        ("efficientvit-m0", relu_before_the_projection_removed, 22),
        ("efficientvit-m0", batch_norm_epsilon, 0.7),
        ("shvit-s1", scale_doubled, 0.2),
        ("shvit-s1", relu_before_the_projection_removed, 13),
        ("shvit-s1", batch_norm_epsilon, 0.2),
    ],
)
def test_a_mistake_would_show(preset: str, change: Change, moves: float) -> None:
    network = load_published(preset, published_state(preset))
    right = right_logits(preset)
    change(network, network.state_dict())
    moved = float((run(network, images(preset)) - right).abs().max())
    assert moved == pytest.approx(moves, rel=0.12)  # the figures came with one or two digits


@pytest.mark.parametrize("row", [1, 2, 3])
def test_reuse_attention_reads_only_the_first_row_of_its_bias(row: int) -> None:
    network = load_published("uniform-t", published_state("uniform-t"))
    before = run(network, images("uniform-t"))
    for key, value in network.state_dict().items():
        if key.endswith("bias.table"):
            value[row] += 1
    assert torch.equal(run(network, images("uniform-t")), before)


@pytest.mark.parametrize("preset", ["uniform-s", "uniform-m-table4"])
def test_presets_without_a_fixture_take_weights_by_the_same_names(preset: str) -> None:
    keys = {re.sub(r"\d+", "#", key) for key, _ in fixture("uniform-t")["state"]}
    network = build(preset_info(preset).arch)
    state = {published_key("uniform", key): weight + 1 for key, weight in network.state_dict().items()}
    assert {re.sub(r"\d+", "#", key) for key in state} == keys
    loaded = load_published(preset, state).state_dict()
    assert all(torch.equal(loaded[key], weight + 1) for key, weight in network.state_dict().items())


# --- what does not fit is refused ----------------------------------------------------------------


def test_keys_that_are_missing_unknown_or_of_another_shape_are_all_listed() -> None:
    state = published_state("shvit-s1", torch.float32)
    del state["stages.1.blocks.0.mixer.m.qkv.c.weight"]
    state["stages.9.weight"] = torch.zeros(1)
    state["head.bn.weight"] = torch.zeros(7)
    with pytest.raises(FileFormatError) as refused:
        load_published("shvit-s1", state)
    assert str(refused.value).splitlines() == [
        "the weights do not fit 'shvit-s1':",
        "1 missing: stages.1.blocks.0.mixer.m.qkv.c.weight",
        "1 unknown: stages.9.weight",
        "1 of another shape: head.bn.weight (7,) instead of (320,)",
    ]


def test_weights_of_another_network_of_the_family_are_refused() -> None:
    with pytest.raises(FileFormatError, match="do not fit 'uniform-m'"):
        load_published("uniform-m", published_state("uniform-t"))


def test_a_checkpoint_around_the_state_dict_is_refused_with_the_way_in() -> None:
    with pytest.raises(
        FileFormatError, match=r"maps names to tensors, got dict for 'model'.*state\['model'\]"
    ):
        load_published("shvit-s1", {"model": published_state("shvit-s1")})  # type: ignore[dict-item]


def test_a_network_that_was_never_released_has_no_weights_to_load() -> None:
    with pytest.raises(UsageError, match="released no such network"):
        load_published("elevit-paper", {})


def test_counters_of_batches_may_be_missing() -> None:
    state = published_state("shvit-s1")
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    both = [run(load_published("shvit-s1", weights), images("shvit-s1")) for weights in (state, without)]
    assert torch.equal(*both)


def test_the_number_of_classes_is_that_of_the_weights() -> None:
    state = published_state("uniform-t")
    state["head.linear.weight"] = state["head.linear.weight"][:7]
    state["head.linear.bias"] = state["head.linear.bias"][:7]
    network = load_published("uniform-t", state)
    assert network.arch.classes == 7
    assert run(network, images("uniform-t")).shape == (2, 7)


@pytest.mark.parametrize(
    "preset",
    [
        name
        for name in preset_names()
        if preset_info(name).family in ("efficientvit", "shvit") and name not in PRESETS
    ],
)
def test_timm_and_hwnas_give_the_same_logits_for_the_presets_without_a_fixture(preset: str) -> None:
    timm = pytest.importorskip("timm")
    side = preset_info(preset).arch.resolution
    theirs = timm.create_model(preset.replace("-", "_"), num_classes=10).double().eval()
    for key, value in theirs.state_dict().items():
        value.copy_(torch.from_numpy(golden_fill.weight(key, value.shape)))
    x = torch.from_numpy(golden_fill.images(1, side))
    ours = load_published(preset, theirs.state_dict())
    torch.testing.assert_close(run(ours, x), run(theirs, x), rtol=0, atol=1e-8)
