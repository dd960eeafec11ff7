"""Single-head attention (SHViT): one head over all tokens, on a part of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm, scale_outputs

__all__ = ["Attention", "SingleHeadAttention"]


class SingleHeadAttention(nn.Module):
    """One head, over the whole map, on the first `channels` channels; the rest passes by.

    SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design (Yun and Ro, CVPR 2024),
    equations 1 to 3. As in the released code, what attends is normalised over channels and positions
    first, the rest is not, and ReLU stands before the last convolution. No bias, no windows.

    Shape: (B, C, H, W) -> (B, C, H, W), the residual sum included.
    """

    def __init__(self, *, c: int, side: int, channels: int, key_dim: int = 16) -> None:
        super().__init__()
        self.heads, self.head_channels = 1, channels
        self.parts = (channels, c - channels)
        self.split_sizes = (key_dim, key_dim, channels)  # channels of q, k, v
        self.scale = key_dim**-0.5
        self.norm = nn.GroupNorm(1, channels)
        self.query_key_value = ConvNorm(channels, 2 * key_dim + channels)
        self.output = nn.Sequential(nn.ReLU(), ConvNorm(c, c, norm_weight=0.0))

    def forward(self, x: Tensor) -> Tensor:
        attending, rest = x.split(self.parts, dim=1)
        q, k, v = self.query_key_value(self.norm(attending)).split(self.split_sizes, dim=1)
        scores = (q * self.scale).flatten(2).transpose(1, 2) @ k.flatten(2)  # (B, N, N)
        mixed = v.flatten(2) @ scores.softmax(dim=-1).transpose(1, 2)  # (B, channels, N)
        result: Tensor = x + self.output(torch.cat([mixed.reshape(v.shape), rest], dim=1))
        return result

    def fold_(self) -> None:
        """The scale goes into the rows that give Q."""
        scale_outputs(self.query_key_value, self.scale, slice(self.split_sizes[0]))
        self.scale = 1.0


Attention = SingleHeadAttention
