"""Backbone: any ArchSpec without its head, with a feature map per stage; Pyramid: an FPN over them."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas import plugins
from hwnas.nn import build
from hwnas.space import ArchSpec, OpSpec

__all__ = [
    "Backbone",
    "Pyramid",
    "run_op",
    "stage_of",
]


# --- one op on a feature map of any shape -----------------------------------------------------
# A classifier sees squares of one size; a detector sees photos as they are. What copes by itself, and what
# is done for the rest:
#
#     convolutions, FFNs, merges     slide: nothing
#     single-head                    every position sees every other, without position information: nothing,
#                                    but the work grows with the square of the positions
#     reuse, cascaded-group          look within windows with a learnt bias for each distance in them. The
#                                    windows keep their side, as many as cover the map, rows and columns
#                                    apart; the last ones are filled up with zeros, as on a square
#     element-wise                   K^T swaps height and width: the map is filled up with zeros to a
#                                    square and cut again. Where nothing is swapped: nothing
#     conv-pool                      has no padding, so that each map loses a row and a column, which shifts
#                                    what is seen against the anchors: here it is padded by one


def run_op(module: nn.Module, x: Tensor) -> Tensor:
    """What the op gives for a map of any shape: (B, C, H, W) -> (B, C', H', W').

    On a square that the op was built for it is what the module gives, but for conv-pool's border.
    H' = H, or ceil(H / 2) where the op downsamples; W' alike.
    """
    name = type(module).__name__
    if name == "ConvPool":
        x = F.pad(x, (1, 1, 1, 1))
    elif hasattr(module, "windows"):
        return _within_windows(module, x)
    elif getattr(module, "swap_key", False) and x.shape[2] != x.shape[3]:
        return _within_square(module, x)
    return cast(Tensor, module(x))


def _within_windows(attention: Any, x: Tensor) -> Tensor:
    """x plus the attention within each window, (B, C, H, W) -> the same."""
    batch, channels, height, width = x.shape
    size: int = attention.windows.size
    down, across = -(-height // size), -(-width // size)
    attend: Callable[[Tensor], Tensor] = attention.attend
    padded = F.pad(x, (0, across * size - width, 0, down * size - height))
    cut = padded.view(batch, channels, down, size, across, size).permute(0, 2, 4, 1, 3, 5)
    seen = attend(cut.reshape(-1, channels, size, size))  # (B * windows, C, size, size)
    joined = seen.view(batch, down, across, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return x + joined.reshape(batch, channels, down * size, across * size)[:, :, :height, :width]


def _within_square(attention: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    side = max(height, width)
    square: Tensor = attention(F.pad(x, (0, side - width, 0, side - height)))
    return square[:, :, :height, :width]


# --- backbone and pyramid ---------------------------------------------------------------------


class Backbone(nn.Module):
    """The stages of a network on images of any shape.

    Its weights are called as in `hwnas.nn.build(arch)`, below `network`. What is learnt for the size of
    a map, the biases within windows, is for windows at `arch.resolution`; see `hwnas.dense.backbone`.

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
    """A backbone with torchvision's feature pyramid: maps of one width, mixed with coarser ones.

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
