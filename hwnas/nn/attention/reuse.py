"""Reuse attention (UniForm): one attention matrix, which every head's values go through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.nn.attention._bias import AttentionBias
from hwnas.nn.attention._windows import Windows
from hwnas.nn.conv_norm import ConvNorm, scale_outputs

__all__ = ["Attention", "ReuseAttention"]


class ReuseAttention(nn.Module):
    """One attention matrix for all heads; each head's values see another scale.

    UniForm (Yeom and Kim, 2024), equations 1 to 5. Two variants:

    - `released`, which the published figures follow: Q and K of a quarter of the width, Q also
      through a depthwise convolution, scores divided by sqrt(16) whatever the width, no W^V, and
      ReLU and a 1x1 convolution at the end. The values' convolutions have a bias and no BatchNorm.
    - `paper`: the equations as printed. Q and K of full width, scores divided by sqrt(D), a W^V,
      nothing at the end.

    Both look within windows. `released` adds a learnt bias by distance to the scores; its table has a
    row per head, of which only the first is used: there is one matrix.

    Shape: (B, C, H, W) -> (B, C, H, W), the residual sum included.
    """

    def __init__(
        self,
        *,
        c: int,
        side: int,
        heads: int,
        kernels: tuple[int, ...],
        query_kernel: int = 7,
        window: int = 7,
        variant: str = "released",
    ) -> None:
        super().__init__()
        literal = variant == "paper"
        self.windows = Windows(side, window)
        self.query_channels = c if literal else c // 4
        self.heads, self.head_channels = heads, c // heads
        self.scale = c**-0.5 if literal else 16**-0.5
        self.query_key = ConvNorm(c, 2 * self.query_channels)
        self.query_local: nn.Module = nn.Identity()
        self.value: nn.Module = nn.Identity()
        self.output: nn.Module = nn.Identity()
        if literal:
            self.value = ConvNorm(c, c)
        else:
            q = self.query_channels
            self.query_local = ConvNorm(q, q, query_kernel, groups=q)
            self.output = nn.Sequential(nn.ReLU(), ConvNorm(c, c, norm_weight=0.0))
        self.value_scales = nn.ModuleList(
            nn.Conv2d(self.head_channels, self.head_channels, kernel, padding=kernel // 2, groups=c // heads)
            for kernel in kernels
        )
        self.bias = None if literal else AttentionBias(heads, self.windows.size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.windows.join(self.attend(self.windows.split(x)))

    def attend(self, x: Tensor) -> Tensor:
        """Attention within each window, (windows, C, w, w) -> the same."""
        q, k = self.query_key(x).split(self.query_channels, dim=1)  # (windows, C/4, w, w)
        q = (self.query_local(q) * self.scale).flatten(2)  # (windows, C/4, N)
        heads = self.value(x).split(self.head_channels, dim=1)
        v = torch.cat([scale(head) for scale, head in zip(self.value_scales, heads, strict=True)], dim=1)
        scores = q.transpose(1, 2) @ k.flatten(2)  # (windows, N, N)
        attention = (scores if self.bias is None else scores + self.bias(0)).softmax(dim=-1)
        mixed = v.flatten(2) @ attention.transpose(1, 2)  # (windows, C, N): all heads in one product
        result: Tensor = self.output(mixed.reshape(v.shape))
        return result

    def fold_(self) -> None:
        """The scale goes into the convolution that gives Q."""
        if isinstance(self.query_local, nn.Conv2d):
            scale_outputs(self.query_local, self.scale)
        else:
            scale_outputs(self.query_key, self.scale, slice(self.query_channels))
        self.scale = 1.0


Attention = ReuseAttention
