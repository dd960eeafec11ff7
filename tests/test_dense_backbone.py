"""Any architecture sees images of any shape, stage by stage, and torchvision's heads take what it gives."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torch
import torch.nn.functional as F
from dense_samples import ARCH, RECIPE
from torch import Tensor, nn

from hwnas.dense.backbone import Backbone, Pyramid, run_op
from hwnas.dense.networks import TASKS, build_dense
from hwnas.errors import UsageError
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.nn.network import build_op
from hwnas.space import ArchSpec, OpSpec, preset
from hwnas.space.arch import CascadedGroup, ElementWise, Reuse, SingleHead, Stage, Stem
from hwnas.train import init_weights as start
from hwnas.train.callbacks import NullCallback

SIDE = 12
ATTENTIONS = {
    "reuse": "reuse(c=16,side=12,heads=2,kernels=1-3,query_kernel=3,window=5)",
    "cascaded-group": "cascaded-group(c=16,side=12,heads=2,kernels=3-3,key_dim=4,window=5)",
    "single-head": "single-head(c=16,side=12,channels=8,key_dim=4)",
    "element-wise": "element-wise(c=16,side=12)",
    "element-wise unswapped": "element-wise(c=16,side=12,swap_key=no)",
}


def attention(name: str) -> nn.Module:
    """An attention with random weights, biases within windows included, in eval mode."""
    return randomise(build_op(OpSpec.from_key(ATTENTIONS[name]))).eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ATTENTIONS)
@torch.no_grad()
def test_on_the_square_it_was_built_for_an_attention_gives_what_it_gives_by_itself(name: str) -> None:
    module, x = attention(name), torch.randn(2, 16, SIDE, SIDE)
    torch.testing.assert_close(run_op(module, x), module(x))


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("shape", [(7, 18), (13, 5), (1, 1), (3, 4)])
@torch.no_grad()
def test_every_attention_takes_every_shape(name: str, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 16, *shape)
    found = run_op(attention(name), x)
    assert found.shape == x.shape
    assert found.isfinite().all()
    assert not torch.equal(found, x), "it does something"


@pytest.mark.parametrize("name", ["reuse", "cascaded-group"])
@torch.no_grad()
def test_windows_cover_a_map_of_any_shape_each_as_if_it_were_alone(name: str) -> None:
    module, x = attention(name), torch.randn(1, 16, 7, 13)
    padded = F.pad(x, (0, 2, 0, 3))  # to 10 x 15, windows of 5
    expected = torch.empty_like(padded)
    for top in range(0, 10, 5):
        for left in range(0, 15, 5):
            place = (slice(None), slice(None), slice(top, top + 5), slice(left, left + 5))
            expected[place] = padded[place] + module.attend(padded[place])
    torch.testing.assert_close(run_op(module, x), expected[:, :, :7, :13])


@torch.no_grad()
def test_where_height_and_width_are_swapped_the_map_is_filled_up_to_a_square() -> None:
    module, x = attention("element-wise"), torch.randn(1, 16, 5, 9)
    by_hand = module(F.pad(x, (0, 0, 0, 4)))[:, :, :5]
    torch.testing.assert_close(run_op(module, x), by_hand)


def mixed(attention: Reuse | CascadedGroup | SingleHead | ElementWise) -> ArchSpec:
    return ArchSpec(
        resolution=96,
        stem=Stem(stride=8),
        stages=(Stage(width=16, blocks=(None,)), Stage(width=32, blocks=(attention, attention))),
    )


@pytest.mark.parametrize(
    "arch",
    [
        mixed(Reuse(heads=2, kernels=(1, 3), window=4)),
        mixed(CascadedGroup(heads=2, kernels=(3, 3), key_dim=4, window=4)),
        mixed(SingleHead(channels=8)),
        mixed(ElementWise()),
    ],
    ids=lambda arch: arch.stages[1].blocks[0].type,
)
@torch.no_grad()
def test_a_backbone_gives_the_stages_of_its_network(arch: ArchSpec) -> None:
    network = randomise(build(arch)).eval()
    backbone = Backbone(arch).eval()
    backbone.network.load_state_dict(network.state_dict(), strict=False)
    images = torch.randn(2, 3, 96, 96)
    for found, expected in zip(backbone(images).values(), network.forward_features(images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["uniform-t", "efficientvit-m0", "shvit-s1", "elevit-l"])
@torch.no_grad()
def test_a_preset_sees_images_that_no_stride_divides(name: str) -> None:
    backbone = Backbone(preset(name)).eval()
    height, width = 131, 203
    maps = list(backbone(torch.randn(1, 3, height, width)).values())
    assert [(one.shape[1], *one.shape[2:]) for one in maps] == [
        (channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(backbone.widths, backbone.strides, strict=True)
    ]


def test_a_stage_without_blocks_gives_a_map_too() -> None:
    arch = dataclasses.replace(ARCH, stages=(Stage(width=24, blocks=()), *ARCH.stages[1:]))
    assert [tuple(one.shape) for one in Backbone(arch)(torch.randn(2, 3, 64, 96)).values()] == [
        (2, 24, 16, 24),
        (2, 32, 8, 12),
        (2, 48, 4, 6),
    ]


@pytest.mark.parametrize(("above", "strides"), [("nothing", 3), ("pool", 4), ("convs", 5)])
def test_a_pyramid_has_maps_of_one_width_at_its_strides(above: str, strides: int) -> None:
    pyramid = Pyramid(Backbone(ARCH), width=8, above=above)
    assert pyramid.strides == (4, 8, 16, 32, 64)[:strides]
    maps = pyramid(torch.randn(1, 3, 64, 128))
    assert [tuple(one.shape) for one in maps.values()] == [
        (1, 8, 64 // stride, 128 // stride) for stride in pyramid.strides
    ]


def test_biases_of_another_image_size_are_resized_and_the_rest_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = randomise(build(ARCH.adapted(resolution=48)))
    other = Backbone(ARCH.adapted(resolution=160)).network
    given = start.Start("a classifier", small.state_dict())
    monkeypatch.setattr(start, "find_start", lambda asked, arch: given)
    start.initialise(other, "a classifier", ARCH, NullCallback())
    own, path = other.state_dict(), "stages.2.blocks.0.attention.bias.table"
    assert given.weights[path].shape == (2, 3 * 3)
    assert own[path].shape == (2, 7 * 7), "windows of 7 in a map of 10"
    torch.testing.assert_close(own[path], start.resized_bias(given.weights[path], 7))
    unchanged = [name for name in own if not name.endswith("bias.table")]
    assert all(torch.equal(own[name], given.weights[name]) for name in unchanged)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_of_each_task_gives_losses_then_predictions(task: str) -> None:
    network = build_dense(ARCH, task, 2, RECIPE)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((64, 91), (70, 65))]
    boxes = torch.tensor([[10.0, 12.0, 34.0, 40.0]])
    masks = torch.zeros(1, 64, 91, dtype=torch.uint8)
    masks[0, 12:40, 10:34] = 1
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    targets: list[dict[str, Tensor]] = [
        {"boxes": boxes, "labels": torch.tensor([2]), "masks": masks, "map": masks[0].long()},
        {**nothing, "masks": torch.zeros(0, 70, 65, dtype=torch.uint8), "map": torch.full((70, 65), 255)},
    ]
    losses = network(images, targets)
    assert all(value.isfinite() for value in losses.values()) and losses
    torch.stack(list(losses.values())).sum().backward()
    ungraded = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert not ungraded, "every weight takes part"

    network.eval()
    with torch.no_grad():
        first, second = network(images)
    if task == "segment":
        assert (first["map"].shape, second["map"].shape) == ((64, 91), (70, 65))
        assert set(first["map"].unique().tolist()) <= {0, 1, 2}
    else:
        assert first["boxes"].shape[1] == 4
        assert (first["boxes"][:, 2] <= 91).all() and (first["boxes"][:, 3] <= 64).all()
    if task == "instance":
        assert first["masks"].shape[1:] == (1, 64, 91)


def test_regions_are_pooled_at_the_maps_own_scale_however_much_is_filled_up() -> None:
    arch = ARCH.adapted(stem_stride=16)  # the last map has stride 64, so 72 pixels become 128
    network = build_dense(arch, "instance", 2, RECIPE).eval()
    with torch.no_grad():
        network([torch.zeros(3, 72, 72, dtype=torch.uint8)])
    for pool in (network.inner.roi_heads.box_roi_pool, network.inner.roi_heads.mask_roi_pool):  # type: ignore
        assert pool.scales == [1 / 16, 1 / 32, 1 / 64]


def test_frozen_norms_keep_their_statistics() -> None:
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    targets = [{"map": torch.zeros(64, 64, dtype=torch.int64)} for _ in range(2)]
    for frozen in (False, True):
        network = build_dense(ARCH, "segment", 2, dataclasses.replace(RECIPE, freeze_norms=frozen))
        before = {name: value.clone() for name, value in network.backbone.named_buffers()}
        network.train()(images, targets)
        same = all(torch.equal(before[name], value) for name, value in network.backbone.named_buffers())
        assert same is frozen


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="one of detect, instance, segment, got 'pose'"):
        build_dense(ARCH, "pose", 2, RECIPE)
