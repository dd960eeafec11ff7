"""UniForm's reuse attention written down head by head, as its equations 1 to 5 read.

What a straightforward implementation exports: a convolution and a product for every head's values, the
shared attention matrix used once for each. Weights are those of an hwnas network, so that the logits
can be compared.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hwnas.nn.attention.reuse import ReuseAttention
from hwnas.nn.network import Network

__all__ = ["literal"]


def literal(network: Network) -> Network:
    """A copy in eval mode, unfolded, whose attentions work head by head."""
    written = copy.deepcopy(network).eval()
    for name, module in list(written.named_modules()):
        if isinstance(module, ReuseAttention):
            parent, _, last = name.rpartition(".")
            setattr(written.get_submodule(parent), last, _HeadByHead(module))
    return written


class _HeadByHead(nn.Module):
    """Shape: (B, C, H, W) -> the same, the residual sum included."""

    def __init__(self, attention: ReuseAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        windows = self.attention.windows
        batch, c, side, _ = x.shape
        n, w = windows.per_side, windows.size
        if n > 1:  # only sides that windows divide
            inside = x.reshape(batch, c, n, w, n, w).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, w, w)
        else:
            inside = x
        mixed = self._attend(inside)
        if n > 1:
            mixed = (
                mixed.reshape(batch, n, n, c, w, w).permute(0, 3, 1, 4, 2, 5).reshape(batch, c, side, side)
            )
        return x + mixed

    def _attend(self, x: Tensor) -> Tensor:
        own = self.attention
        q, k = own.query_key(x).split(own.query_channels, dim=1)
        q, k = own.query_local(q).flatten(2), k.flatten(2)
        scores = (q.transpose(-2, -1) @ k) * own.scale
        assert own.bias is not None
        shared = (scores + own.bias(0)).softmax(dim=-1)
        heads = []
        for part, scale in zip(x.split(own.head_channels, dim=1), own.value_scales, strict=True):
            v = scale(part)
            heads.append((v.flatten(2) @ shared.transpose(-2, -1)).reshape(v.shape))
        result: Tensor = own.output(torch.cat(heads, dim=1))
        return result
