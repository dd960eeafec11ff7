"""Backbone: any ArchSpec without its head, with a feature map per stage; Pyramid: an FPN over them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hwnas import plugins
from hwnas.dense.any_shape import run_op
from hwnas.nn import build
from hwnas.space import ArchSpec, OpSpec

__all__ = ["Backbone", "Pyramid", "stage_of"]


class Backbone(nn.Module):
    """The stages of a network on images of any shape.

    Its weights are called as in `hwnas.nn.build(arch)`, below `network`. What is learnt for the size of
    a map, the biases within windows, is for windows at `arch.resolution`; see `hwnas.dense.any_shape`.

    Shape: (B, 3, H, W) -> {"0": (B, widths[0], H / strides[0], W / strides[0]), "1": ...}, rounded up.
    """

    def __init__(self, arch: ArchSpec) -> None:
        super().__init__()
        self.arch = arch
        self.network = build(arch)
        del self.network.head
        self.widths = tuple(stage.width for stage in arch.stages)
        """Channels of each stage's map."""
        self.strides = tuple(arch.stem.stride << stage for stage in range(len(arch.stages)))
        """Pixels of the image per position of each stage's map."""

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        x = images
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for op in self.network.ops:
            if op.place == "head":
                break
            x = run_op(self.network.get_submodule(op.place), x)
            maps[stage_of(op)] = x  # the last op of a stage has the last word
        return maps


def stage_of(op: OpSpec) -> str:
    """The number of the stage whose map an op is part of; the stem is part of the first."""
    stage = re.match(r"stages\.(\d+)", op.place)
    return stage.group(1) if stage else "0"


class Pyramid(nn.Module):
    """A backbone with torchvision's feature pyramid: all maps of one width, each told what coarser ones see.

    `above` says what comes on top: "pool" (one more map, as Mask R-CNN has it), "convs" (two more, as
    RetinaNet has them) or "nothing".

    Shape: (B, 3, H, W) -> maps of `out_channels` at `strides`, finest first.
    """

    def __init__(self, backbone: Backbone, *, width: int, above: str) -> None:
        super().__init__()
        ops: Any = plugins.require("torchvision.ops.feature_pyramid_network", extra="torch")
        extra: Mapping[str, Any] = {
            "pool": ops.LastLevelMaxPool,
            "convs": lambda: ops.LastLevelP6P7(width, width),
            "nothing": lambda: None,
        }
        self.body = backbone
        self.fpn = ops.FeaturePyramidNetwork(list(backbone.widths), width, extra[above]())
        self.out_channels = width
        more = {"pool": 1, "convs": 2, "nothing": 0}[above]
        self.strides = (*backbone.strides, *(backbone.strides[-1] << n for n in range(1, more + 1)))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps: OrderedDict[str, Tensor] = self.fpn(self.body(images))
        return maps
