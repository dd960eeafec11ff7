"""Element-wise attention (EleViT): query times key, element by element, in every channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm, scale_outputs

__all__ = ["Attention", "ElementWiseAttention"]


class ElementWiseAttention(nn.Module):
    """alpha * softmax(Q * K^T / sqrt(C)) * V, every product element by element; a channel is a head.

    EleViT (Shah et al., CVPR workshops 2024), equations 1 and 2. The text and the released code
    disagree, so each point of disagreement is a setting: how Q, K and V are made (three 3x3 depthwise
    convolutions, or one dense 3x3), what follows (`output`), the axis of the softmax (the last one,
    or all positions), whether K^T swaps height and width, whether there is an alpha, and the divisor
    sqrt(C / scale_channels_over).

    Alpha starts at 0, as the authors' does, but at 1 where the output ends in a BatchNorm whose weight
    starts at 0: of two factors that are both 0, neither has a gradient, and nothing would ever learn.

    Shape: (B, C, H, W) -> (B, C, H, W), the residual sum included. H = W where the key is swapped.
    """

    def __init__(
        self,
        *,
        c: int,
        side: int,
        projections: str = "depthwise",
        output: str = "pointwise",
        softmax: str = "width",
        swap_key: bool = True,
        gate: bool = True,
        scale_channels_over: int = 1,
    ) -> None:
        super().__init__()
        self.c = c
        self.heads, self.head_channels = c, 1
        self.scale = (c / scale_channels_over) ** -0.5
        self.over_tokens = softmax == "tokens"
        self.swap_key = swap_key
        starts_closed = output == "pointwise"  # by its BatchNorm
        self.alpha = nn.Parameter(torch.full((1,), 1.0 if starts_closed else 0.0)) if gate else None
        if projections == "dense":
            self.query_key_value = ConvNorm(c, 3 * c, 3)
        else:
            self.query = ConvNorm(c, c, 3, groups=c)
            self.key = ConvNorm(c, c, 3, groups=c)
            self.value = ConvNorm(c, c, 3, groups=c)
        self.output: nn.Module = nn.Identity()
        if output == "pointwise":
            self.output = nn.Sequential(nn.ReLU(), ConvNorm(c, c, norm_weight=0.0))
        elif output == "dense":
            conv = nn.Conv2d(c, c, 3, padding=1, bias=False)
            self.output = nn.Sequential(conv, nn.GELU(), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        scores = q * self.scale * (k.transpose(2, 3) if self.swap_key else k)
        if self.over_tokens:
            attention = scores.flatten(2).softmax(dim=-1).reshape(scores.shape)
        else:
            attention = scores.softmax(dim=-1)
        mixed = attention * (v if self.alpha is None else v * self.alpha)
        result: Tensor = x + self.output(mixed)
        return result

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each of the shape of x."""
        if hasattr(self, "query_key_value"):
            q, k, v = self.query_key_value(x).split(self.c, dim=1)
            return q, k, v
        return self.query(x), self.key(x), self.value(x)

    def fold_(self) -> None:
        """The scale goes into the convolution that gives Q, alpha into the one that gives V."""
        query, value = (slice(self.c), slice(2 * self.c, None))
        if not hasattr(self, "query_key_value"):
            query = value = slice(None)
        scale_outputs(getattr(self, "query_key_value", None) or self.query, self.scale, query)
        self.scale = 1.0
        if self.alpha is not None:
            scale_outputs(getattr(self, "query_key_value", None) or self.value, self.alpha, value)
            self.alpha = None


Attention = ElementWiseAttention
