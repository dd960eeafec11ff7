"""Linear attention as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm


class Attention(nn.Module):
    """V softmax(K)^T softmax(Q), after Shen et al., "Efficient Attention" (WACV 2021).

    The product of values and keys comes first: its cost grows with the positions, not with their square.

    Shape: (B, C, H, W) -> (B, C, H, W), the residual sum included.
    """

    def __init__(self, *, c: int, side: int, key_dim: int = 16) -> None:
        super().__init__()
        self.parts = [key_dim, key_dim, c]
        self.query_key_value = ConvNorm(c, 2 * key_dim + c)
        self.output = nn.Sequential(nn.ReLU(), ConvNorm(c, c, norm_weight=0.0))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x).flatten(2).split(self.parts, dim=1)  # (B, ., N)
        context = torch.matmul(v, k.softmax(dim=2).transpose(1, 2))  # (B, C, key_dim)
        mixed = torch.matmul(context, q.softmax(dim=1))  # (B, C, N)
        result: Tensor = x + self.output(mixed.reshape(x.shape))
        return result
