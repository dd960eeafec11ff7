"""The blocks that EfficientViT, SHViT and UniForm share: stem, DW, FFN, merge, head.

Each is built from the settings of its op (`hwnas.space.ops`): c and side of the input.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm, norm_as_affine
from hwnas.space.ops import squeezed_channels

__all__ = [
    "DepthwiseConv",
    "FeedForward",
    "Head",
    "Merge",
    "SqueezeExcite",
    "Stem",
    "open_branches",
]


class Stem(nn.Sequential):
    """3x3 convolutions of stride 2, as many as the stride needs; ReLU between, none at the end.

    The width doubles from one to the next, up to c: 3 -> c/8 -> c/4 -> c/2 -> c for stride 16.

    Shape: (B, 3, R, R) -> (B, c, R / stride, R / stride), rounded up.
    """

    def __init__(self, *, c: int, resolution: int, stride: int) -> None:
        halvings = stride.bit_length() - 1
        widths = [3, *(c >> (halvings - 1 - index) for index in range(halvings))]
        layers: list[nn.Module] = []
        for index in range(halvings):
            layers += [nn.ReLU()] if index else []
            layers.append(ConvNorm(widths[index], widths[index + 1], 3, stride=2))
        super().__init__(*layers)


class DepthwiseConv(nn.Module):
    """DW: a 3x3 depthwise convolution, no activation. Residual. Shape: (B, C, H, W) -> the same."""

    def __init__(self, *, c: int, side: int, norm_weight: float = 0.0) -> None:
        super().__init__()
        self.conv = ConvNorm(c, c, 3, groups=c, norm_weight=norm_weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv(x)
        return result


class FeedForward(nn.Module):
    """FFN: 1x1 to `hidden` channels, ReLU, 1x1 back. Residual. Shape: (B, C, H, W) -> the same."""

    def __init__(self, *, c: int, side: int, hidden: int) -> None:
        super().__init__()
        self.expand = ConvNorm(c, hidden)
        self.reduce = ConvNorm(hidden, c, norm_weight=0.0)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.reduce(F.relu(self.expand(x)))
        return result


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that has seen the mean of all of them (Hu et al., CVPR 2018).

    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c, squeezed_channels(c), 1)
        self.excite = nn.Conv2d(squeezed_channels(c), c, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.adaptive_avg_pool2d(x, 1)  # (B, C, 1, 1)
        gate: Tensor = self.excite(F.relu(self.squeeze(mean))).sigmoid()
        return x * gate


class Merge(nn.Module):
    """Downsampling: 1x1 to 4c, ReLU, 3x3 depthwise of stride 2, ReLU, squeeze and excite, 1x1 to `out`.

    Shape: (B, c, H, W) -> (B, out, H / 2, W / 2), rounded up.
    """

    def __init__(self, *, c: int, out: int, side: int) -> None:
        super().__init__()
        hidden = 4 * c
        self.expand = ConvNorm(c, hidden)
        self.local = ConvNorm(hidden, hidden, 3, stride=2, groups=hidden)
        self.gate = SqueezeExcite(hidden)
        self.reduce = ConvNorm(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.local(F.relu(self.expand(x))))
        result: Tensor = self.reduce(self.gate(x))
        return result


class Head(nn.Module):
    """Mean over positions, BatchNorm, Linear. Shape: (B, C, H, W) -> (B, classes), logits."""

    def __init__(self, *, c: int, side: int, classes: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm1d(c)
        self.linear = nn.Linear(c, classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, C)
        result: Tensor = self.linear(self.norm(mean))
        return result

    def fold_(self) -> None:
        """BatchNorm goes into the Linear after it."""
        assert isinstance(self.norm, nn.BatchNorm1d)
        scale, shift = norm_as_affine(self.norm)
        self.linear.bias.add_(self.linear.weight @ shift)
        self.linear.weight.mul_(scale)
        self.norm = nn.Identity()


# --- branches that a new network starts with closed -------------------------------------------

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def open_branches(module: Module, weight: float = 1.0) -> Module:
    """The module, in place, with every branch at work.

    A fresh network of these families is the identity in its blocks: the BatchNorm that ends a branch starts
    at weight 0, or the gate of element-wise attention does. Trained long, it opens them itself. The
    BatchNorms are set to `weight` here, and gates to 1.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and bool((part.weight == 0).all()):
            part.weight.fill_(weight)
        gate = part._parameters.get("alpha")
        if gate is not None and bool((gate == 0).all()):
            gate.fill_(1)
    return module
