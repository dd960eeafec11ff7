"""The blocks that EleViT has to itself: its stem, downsampling, convolutional FFN and double head.

Each is built from the settings of its op (`hwnas.space.ops`), and follows the code that the
authors released in July 2024; the paper's text says less.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm

__all__ = ["ConvFeedForward", "ConvPool", "ConvPoolStem", "DualHead"]


def _max_pool(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 2, W / 2), rounded up."""
    return F.max_pool2d(x, 3, stride=2, padding=1)


class ConvPoolStem(nn.Module):
    """Twice: 3x3 convolution with bias, BatchNorm, ReLU, 3x3 max pooling of stride 2.

    Shape: (B, 3, R, R) -> (B, c, R / 4, R / 4), rounded up.
    """

    def __init__(self, *, c: int, resolution: int) -> None:
        super().__init__()
        self.conv0 = ConvNorm(3, c // 2, 3, bias=True)
        self.conv1 = ConvNorm(c // 2, c, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = _max_pool(F.relu(self.conv0(x)))
        return _max_pool(F.relu(self.conv1(x)))


class ConvPool(nn.Module):
    """Downsampling: 3x3 convolution without padding, max pooling of stride 2, then BatchNorm.

    Shape: (B, c, H, W) -> (B, out, (H - 1) / 2, (W - 1) / 2), rounded down.
    """

    def __init__(self, *, c: int, out: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, out, 3)
        self.norm: nn.Module = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(_max_pool(self.conv(x)))
        return result


class ConvFeedForward(nn.Module):
    """3x3 depthwise with BatchNorm, 1x1 to `hidden` channels, GELU, 1x1 back. Residual.

    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, *, c: int, side: int, hidden: int) -> None:
        super().__init__()
        self.local = ConvNorm(c, c, 3, groups=c, bias=True)
        self.expand = nn.Conv2d(c, hidden, 1)
        self.reduce = nn.Conv2d(hidden, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.reduce(F.gelu(self.expand(self.local(x))))
        return result


class DualHead(nn.Module):
    """The mean of two Linear layers on the mean over positions. Shape: (B, C, H, W) -> (B, classes)."""

    def __init__(self, *, c: int, side: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c, classes)
        self.distilled = nn.Linear(c, classes)
        for linear in (self.linear, self.distilled):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, C)
        result: Tensor = (self.linear(mean) + self.distilled(mean)) * 0.5
        return result
