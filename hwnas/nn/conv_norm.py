"""ConvNorm: a convolution without bias, then BatchNorm. What the families call CB, or ConvBN."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["ConvNorm", "norm_as_affine", "scale_outputs"]


class ConvNorm(nn.Module):
    """Conv2d (padding kernel // 2, no bias unless asked for), then BatchNorm2d.

    `norm_weight` is what BatchNorm's weight starts at: 0 where the convolution ends a residual
    branch, so that a network starts as the identity.

    Shape: (B, C, H, W) -> (B, out, H', W'), with H' = ceil(H / stride).
    """

    def __init__(
        self,
        c: int,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(out)
        nn.init.constant_(self.norm.weight, norm_weight)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.conv(x))
        return result

    def folded(self) -> nn.Conv2d:
        """One convolution, with bias, that gives what this gives in eval mode."""
        scale, shift = norm_as_affine(self.norm)
        conv = copy.deepcopy(self.conv)
        with torch.no_grad():
            bias = shift if conv.bias is None else shift + conv.bias * scale
            conv.weight.mul_(scale.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter(bias.detach())
        return conv


def norm_as_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """(scale, shift), one of each per channel: what BatchNorm does in eval mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def scale_outputs(conv: nn.Module, factor: Tensor | float, channels: slice = slice(None)) -> None:
    """Multiplies what a folded convolution gives, in these of its output channels, by `factor`."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    conv.weight[channels] *= factor
    conv.bias[channels] *= factor
