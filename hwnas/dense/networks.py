"""Detectors and segmentation networks: torchvision's heads on a backbone's pyramid.

    detect     RetinaNet (Lin et al., ICCV 2017)
    instance   Mask R-CNN (He et al., ICCV 2017)
    segment    torchvision's FCN head on the sum of the pyramid's maps, as panoptic FPN's semantic branch
               sums them (Kirillov et al., CVPR 2019), without its convolutions between

All are called alike: with images of any sizes, a list of (3, H, W) uint8, and, in training, their
targets; they give the losses by name, or in eval mode a prediction an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas import plugins
from hwnas.data.preprocessing import MEAN, STD
from hwnas.dense.backbone import Backbone, Pyramid
from hwnas.dense.data import IGNORED
from hwnas.dense.recipe import DenseRecipe
from hwnas.errors import UsageError
from hwnas.space import ArchSpec

__all__ = ["TASKS", "DenseNetwork", "Segmenter", "build_dense"]

TASKS = ("detect", "instance", "segment")
ASPECTS = (0.5, 1.0, 2.0)
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
"""Sides of a map's anchors over its smallest, as in RetinaNet."""
CHANNELS_PER_GROUP = 8
"""Of the group norms in RetinaNet's head: 32 groups at the usual width of 256."""


class DenseNetwork(nn.Module):
    """A backbone with the head of a task.

    In training: losses by name, a number each. In eval mode a dict an image: for detection `boxes`
    (N, 4), `labels` (N,), `scores` (N,) and, for instances, `masks` (N, 1, H, W), probabilities; for
    segmentation `map` (H, W), the class of each pixel, 0 for none.
    """

    def __init__(self, inner: nn.Module, *, freeze_norms: bool) -> None:
        """`freeze_norms` keeps the backbone's BatchNorms in eval mode, whatever mode the rest is in."""
        super().__init__()
        self.inner = inner
        self.freeze_norms = freeze_norms

    @property
    def backbone(self) -> Backbone:
        """The stages of the architecture, below all that was added."""
        body = self.inner.backbone.body  # type: ignore[union-attr]
        assert isinstance(body, Backbone)
        return body

    def forward(self, images: list[Tensor], targets: list[Mapping[str, Tensor]] | None = None) -> Any:
        return self.inner([image.float() / 255 for image in images], targets)

    def train(self, mode: bool = True) -> DenseNetwork:
        """As for any module, but for norms that are frozen."""
        super().train(mode)
        if self.freeze_norms:
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def build_dense(arch: ArchSpec, task: str, classes: int, recipe: DenseRecipe) -> DenseNetwork:
    """The network of a task on `arch` as a backbone, freshly initialised, in train mode.

    `arch` is adapted to the recipe's image size already. Raises UsageError for an unknown task.
    """
    if task not in TASKS:
        raise UsageError(f"a task must be one of {', '.join(TASKS)}, got '{task}'")
    above = {"detect": "convs", "instance": "pool", "segment": "nothing"}[task]
    pyramid = Pyramid(Backbone(arch), width=recipe.pyramid_width, above=above)
    sizes = _sizes(recipe, pyramid)
    inner: nn.Module
    if task == "detect":
        inner = _retina_net(pyramid, classes, recipe, sizes)
    elif task == "instance":
        inner = _mask_rcnn(pyramid, classes, recipe, sizes)
    else:
        inner = Segmenter(pyramid, classes, sizes)
    return DenseNetwork(inner, freeze_norms=recipe.freeze_norms).train()


class Segmenter(nn.Module):
    """A class for every pixel: the pyramid's maps, enlarged and summed, then torchvision's FCN head."""

    def __init__(self, pyramid: Pyramid, classes: int, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        fcn: Any = plugins.require("torchvision.models.segmentation.fcn", extra="torch")
        transform: Any = plugins.require("torchvision.models.detection.transform", extra="torch")
        self.transform = transform.GeneralizedRCNNTransform(**sizes)
        self.backbone = pyramid
        self.head = fcn.FCNHead(pyramid.out_channels, classes + 1)

    def forward(self, images: list[Tensor], targets: list[Mapping[str, Tensor]] | None = None) -> Any:
        batch, _ = self.transform(images)
        maps = list(self.backbone(batch.tensors).values())
        finest = maps[0].shape[2:]
        summed = torch.stack([F.interpolate(one, size=finest, mode="nearest") for one in maps]).sum(0)
        logits = F.interpolate(
            self.head(summed).float(), size=batch.tensors.shape[2:], mode="bilinear", align_corners=False
        )  # (B, classes + 1, H, W)
        if self.training:
            assert targets is not None
            wanted = _wanted(targets, batch.image_sizes, logits.shape[2:])
            learnt = (wanted != IGNORED).sum().clamp(min=1)
            loss = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
            return {"pixels": loss / learnt}
        return [
            {"map": _enlarged(one[:, :height, :width], image.shape[1:]).argmax(0)}
            for one, (height, width), image in zip(logits, batch.image_sizes, images, strict=True)
        ]


def _wanted(targets: list[Mapping[str, Tensor]], sizes: list[tuple[int, int]], padded: torch.Size) -> Tensor:
    """The maps of the targets as large as the images have become, filled up with IGNORED: (B, H, W)."""
    wanted = torch.full((len(targets), *padded), IGNORED, dtype=torch.int64, device=targets[0]["map"].device)
    for number, (target, size) in enumerate(zip(targets, sizes, strict=True)):
        scaled = F.interpolate(target["map"][None, None].float(), size=size, mode="nearest-exact")
        wanted[number, : size[0], : size[1]] = scaled[0, 0].long()
    return wanted


def _enlarged(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def _sizes(recipe: DenseRecipe, pyramid: Pyramid) -> dict[str, Any]:
    """How torchvision's transform scales, normalises and fills up images.

    In training it draws one of `min_size`, elsewhere it takes the last. Filling up to a multiple of the
    coarsest stage's stride keeps every map aligned with the image.
    """
    steps = (-1.0, -0.5, 0.5, 1.0) if recipe.scale_jitter else ()
    shorter = [round(recipe.image_size * (1 + recipe.scale_jitter * step)) for step in steps]
    return {
        "min_size": (*shorter, recipe.image_size),
        "max_size": recipe.longest_side,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "size_divisible": pyramid.body.strides[-1],
    }


def _anchors(pyramid: Pyramid, recipe: DenseRecipe) -> Any:
    """Nine anchors for each position of each map: three sizes, three aspects."""
    generator: Any = plugins.require("torchvision.models.detection.anchor_utils", extra="torch")
    sizes = tuple(
        tuple(recipe.anchor_scale * stride * octave for octave in OCTAVES) for stride in pyramid.strides
    )
    return generator.AnchorGenerator(sizes, (ASPECTS,) * len(sizes))


def _retina_net(pyramid: Pyramid, classes: int, recipe: DenseRecipe, sizes: Mapping[str, Any]) -> nn.Module:
    """Torchvision's RetinaNet with the normalised head of its second version, which a narrow one needs:
    the first weights are so small that without norms little passes four layers of few channels."""
    retina: Any = plugins.require("torchvision.models.detection.retinanet", extra="torch")
    width, anchors = pyramid.out_channels, _anchors(pyramid, recipe)
    head = retina.RetinaNetHead(
        width,
        anchors.num_anchors_per_location()[0],
        classes + 1,
        norm_layer=partial(nn.GroupNorm, width // CHANNELS_PER_GROUP),
    )
    network: nn.Module = retina.RetinaNet(
        pyramid, num_classes=classes + 1, anchor_generator=anchors, head=head, **sizes
    )
    return network


def _mask_rcnn(pyramid: Pyramid, classes: int, recipe: DenseRecipe, sizes: Mapping[str, Any]) -> nn.Module:
    """Torchvision's Mask R-CNN; its heads are as wide as the pyramid, which at 256 is what it has."""
    mask: Any = plugins.require("torchvision.models.detection.mask_rcnn", extra="torch")
    faster: Any = plugins.require("torchvision.models.detection.faster_rcnn", extra="torch")
    width = pyramid.out_channels
    network: nn.Module = mask.MaskRCNN(
        pyramid,
        rpn_anchor_generator=_anchors(pyramid, recipe),
        box_roi_pool=_region_pool(pyramid, 7),
        box_head=faster.TwoMLPHead(width * 7 * 7, 4 * width),
        box_predictor=faster.FastRCNNPredictor(4 * width, classes + 1),
        mask_roi_pool=_region_pool(pyramid, 14),
        mask_head=mask.MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=mask.MaskRCNNPredictor(width, width, classes + 1),
        **sizes,
    )
    return network


def _region_pool(pyramid: Pyramid, side: int) -> Any:
    """Torchvision's pooling of regions from the stages' maps, with the scales said.

    By itself it tells them from the first images, and wrongly where much was filled up.
    """
    poolers: Any = plugins.require("torchvision.ops.poolers", extra="torch")
    strides = pyramid.body.strides
    pool = poolers.MultiScaleRoIAlign([str(n) for n in range(len(strides))], side, sampling_ratio=2)
    levels = [stride.bit_length() - 1 for stride in strides]
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = poolers.initLevelMapper(
        levels[0],
        levels[-1],
        canonical_scale=pool.canonical_scale,
        canonical_level=pool.canonical_level,
    )
    return pool
