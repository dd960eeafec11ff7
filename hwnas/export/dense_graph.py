"""DenseGraph: a detector or a segmentation network as it is deployed, for images of one size.

The backbone is in the form that classifiers are deployed in. Windows are cut for the given size, which
need not be square; what is resized is resized by whole factors, so the sides must be multiples of the
coarsest stage's stride.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hwnas.dense.backbone import Backbone, run_op, stage_of
from hwnas.dense.networks import DenseNetwork
from hwnas.errors import UsageError
from hwnas.export.deployment_graph import formed_op
from hwnas.nn.folding import fold
from hwnas.nn.network import Network

__all__ = ["OUTPUTS", "DenseGraph"]

OUTPUTS: Mapping[str, tuple[str, ...]] = {"detect": ("class_logits", "box_offsets"), "segment": ("logits",)}
"""What the graph of a task gives, before boxes are made of it."""


class DenseGraph(nn.Module):
    """The network of a task without transform and postprocessing.

    Shape: (1, 3, height, width) -> OUTPUTS[task]: (1, A, classes + 1) and (1, A, 4) for a detector,
    (1, classes + 1, height, width) for a segmentation network.
    """

    def __init__(
        self, network: DenseNetwork, task: str, height: int, width: int, runtime: str, precision: str
    ) -> None:
        super().__init__()
        if task not in OUTPUTS:
            raise UsageError(
                f"{task}: Mask R-CNN is not exported, as its second stage pools regions that the first one "
                "finds, which a graph of fixed shapes cannot hold. Train with --task detect or segment"
            )
        inner: Any = network.inner
        pyramid = inner.backbone
        stride = pyramid.body.strides[-1]
        if height % stride or width % stride:
            raise UsageError(
                f"the input's sides must be multiples of {stride}, the stride of the last stage, got "
                f"{width}x{height}"
            )
        self.task, self.height, self.width = task, height, width
        self.backbone = _DeployedBackbone(pyramid.body, height, width, runtime, precision)
        self.neck = copy.deepcopy(pyramid.fpn).eval()
        self.head = _BoxHead(inner.head) if task == "detect" else _PixelHead(inner.head, height, width)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.neck(self.backbone(images)))

    @property
    def places(self) -> dict[str, str]:
        """Submodules by name, for the names of ONNX nodes: an op's place, 'neck' and 'head'."""
        ops = {f"backbone.network.{op.place}": op.place for op in self.backbone.ops}
        return {**ops, "neck": "neck", "head": "head"}


class _DeployedBackbone(nn.Module):
    """Shape: (1, 3, height, width) -> a map for each stage, by its number."""

    def __init__(self, backbone: Backbone, height: int, width: int, runtime: str, precision: str) -> None:
        super().__init__()
        self.ops = tuple(op for op in backbone.network.ops if op.place != "head")
        self.network = _deployed(backbone.network, runtime, precision)
        with torch.no_grad():
            x = torch.zeros(1, 3, height, width)
            for op in self.ops:
                module: Any = self.network.get_submodule(op.place)
                if hasattr(module, "windows"):
                    module.windows = _Rectangle(x.shape[2], x.shape[3], module.windows.size)
                x = _run(module, x)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        x = images
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for op in self.ops:
            x = _run(self.network.get_submodule(op.place), x)
            maps[stage_of(op)] = x
        return maps


def _deployed(network: Network, runtime: str, precision: str) -> Network:
    """The stages in the form that they are deployed in; there is no head."""
    folded = fold(network)
    for op in folded.ops:
        if op.place != "head":
            parent, _, name = op.place.rpartition(".")
            module = formed_op(folded.get_submodule(op.place), op.kind, runtime, precision)
            setattr(folded.get_submodule(parent), name, module)
    return folded


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """The op for a map of any shape; windows are cut to it already."""
    return cast(Tensor, module(x)) if hasattr(module, "windows") else run_op(module, x)


class _Rectangle:
    """Windows of a fixed side that cover a map of any shape; as `hwnas.nn.attention._windows.Windows`.

    The last ones are filled up with zeros, bottom and right.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self.height, self.width, self.size = height, width, size
        self.down, self.across = -(-height // size), -(-width // size)
        self.margins = (self.across * size - width, self.down * size - height)

    def split(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (windows, C, size, size), in reading order."""
        if any(self.margins):
            x = F.pad(x, (0, self.margins[0], 0, self.margins[1]))
        if self.down * self.across == 1:
            return x
        rows = x.split(self.size, dim=2)
        return torch.cat([window for row in rows for window in row.split(self.size, dim=3)])

    def join(self, x: Tensor) -> Tensor:
        """Undoes `split`."""
        if self.down * self.across > 1:
            windows = x.chunk(self.down * self.across)
            starts = range(0, len(windows), self.across)
            x = torch.cat([torch.cat(windows[start : start + self.across], dim=3) for start in starts], dim=2)
        return x[:, :, : self.height, : self.width] if any(self.margins) else x


class _BoxHead(nn.Module):
    """RetinaNet's heads: maps -> (1, A, classes + 1), (1, A, 4)."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.classes = copy.deepcopy(head.classification_head).eval()
        self.boxes = copy.deepcopy(head.regression_head).eval()

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = [self._listed(self.classes.cls_logits(self.classes.conv(x)), True) for x in maps.values()]
        offsets = [self._listed(self.boxes.bbox_reg(self.boxes.conv(x)), False) for x in maps.values()]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)

    def _listed(self, x: Tensor, of_classes: bool) -> Tensor:
        """(1, anchors * values, H, W) -> (1, H * W * anchors, values)."""
        values = int(self.classes.num_classes) if of_classes else 4
        return x.permute(0, 2, 3, 1).reshape(1, -1, values)


class _PixelHead(nn.Module):
    """The pyramid's maps, enlarged and summed, then FCN's head: maps -> (1, classes + 1, height, width)."""

    def __init__(self, head: Any, height: int, width: int) -> None:
        super().__init__()
        conv, norm, relu, _, last = copy.deepcopy(head).eval()
        self.layers = nn.Sequential(fuse_conv_bn_eval(conv, norm), relu, last)
        self.height, self.width = height, width

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor]:
        finest, *others = maps.values()
        summed = finest
        for other in others:
            summed = summed + F.interpolate(other, size=finest.shape[2:], mode="nearest")
        logits = self.layers(summed)
        size = (self.height, self.width)
        return (F.interpolate(logits, size=size, mode="bilinear", align_corners=False),)
