"""Cascaded group attention (EfficientViT): heads on splits of the channels, one feeding the next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.nn.attention._bias import AttentionBias
from hwnas.nn.attention._windows import Windows
from hwnas.nn.conv_norm import ConvNorm, scale_outputs

__all__ = ["Attention", "CascadedGroupAttention"]


class CascadedGroupAttention(nn.Module):
    """Each head attends on its own split of the channels, to which the head before is added.

    EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention (Liu et al.,
    CVPR 2023), equations 2 and 3. As in the released code, Q passes a depthwise convolution, a learnt
    bias by distance is added to the scores, and ReLU stands before the last convolution.

    Shape: (B, C, H, W) -> (B, C, H, W), the residual sum included.
    """

    def __init__(
        self,
        *,
        c: int,
        side: int,
        heads: int,
        kernels: tuple[int, ...],
        key_dim: int = 16,
        window: int = 7,
    ) -> None:
        super().__init__()
        self.windows = Windows(side, window)
        self.split_sizes = (key_dim, key_dim, c // heads)  # channels of q, k, v
        self.heads, self.head_channels = heads, c // heads
        self.scale = key_dim**-0.5
        self.query_key_value = nn.ModuleList(
            ConvNorm(self.head_channels, 2 * key_dim + self.head_channels) for _ in range(heads)
        )
        self.query_local = nn.ModuleList(
            ConvNorm(key_dim, key_dim, kernel, groups=key_dim) for kernel in kernels
        )
        self.bias = AttentionBias(heads, self.windows.size)
        self.output = nn.Sequential(nn.ReLU(), ConvNorm(c, c, norm_weight=0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.windows.join(self.attend(self.windows.split(x)))

    def attend(self, x: Tensor) -> Tensor:
        """Attention within each window, (windows, C, w, w) -> the same."""
        heads: list[Tensor] = []
        for index, own in enumerate(x.split(self.head_channels, dim=1)):
            heads.append(self.head(index, own + heads[-1] if heads else own))
        result: Tensor = self.output(torch.cat(heads, dim=1))
        return result

    def head(self, index: int, x: Tensor) -> Tensor:
        """One head, (windows, d, w, w) -> the same."""
        q, k, v = self.query_key_value[index](x).split(self.split_sizes, dim=1)
        q = (self.query_local[index](q) * self.scale).flatten(2)  # (windows, key_dim, N)
        attention = (q.transpose(1, 2) @ k.flatten(2) + self.bias(index)).softmax(dim=-1)
        mixed: Tensor = v.flatten(2) @ attention.transpose(1, 2)  # (windows, d, N)
        return mixed.reshape(v.shape)

    def fold_(self) -> None:
        """The scale goes into the convolutions that give Q."""
        for conv in self.query_local:
            scale_outputs(conv, self.scale)
        self.scale = 1.0


Attention = CascadedGroupAttention
