"""fast_form(network): the same function as `fold` gives, with fewer and faster nodes.

What users deploy. The form that `fold` gives is the published networks' own, op by op: latency tables
are measured on it, and it stays as it is. Here what follows from algebra alone is changed:

- A depthwise convolution with a residual sum is one convolution: 1 is added to each kernel's middle.
- Reuse attention: the heads' depthwise convolutions, their kernels zero-padded to the largest, are one
  over all channels; Q and K have a convolution each, so that nothing is split between Q's two.
- Cascaded group and single-head attention: 1x1 convolutions that only matrices follow work on (C, N)
  instead of (C, H, W): what a runtime would lay out anew for them it leaves as it is.
- Windows are joined before the last 1x1 convolution, so that the residual sum follows that directly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.attention.cascaded_group import CascadedGroupAttention
from hwnas.nn.attention.reuse import ReuseAttention
from hwnas.nn.attention.single_head import SingleHeadAttention
from hwnas.nn.blocks import DepthwiseConv
from hwnas.nn.folding import fold
from hwnas.nn.network import Network

__all__ = ["fast_form"]


@torch.no_grad()
def fast_form(network: Network) -> Network:
    """A copy in eval mode that gives what `network` gives in eval mode; the original stays as it is."""
    fast = fold(network)
    for op in fast.ops:
        parent, _, name = op.place.rpartition(".")
        module = fast.get_submodule(op.place)
        setattr(fast.get_submodule(parent), name, _faster(module))
    return fast


def _faster(module: nn.Module) -> nn.Module:
    """The module that takes the place of a folded one, or that one where there is nothing to gain."""
    if isinstance(module, DepthwiseConv):
        return _with_identity(module)
    if isinstance(module, ReuseAttention) and isinstance(module.query_local, nn.Conv2d):
        return _Reuse(module)
    if isinstance(module, CascadedGroupAttention):
        return _CascadedGroup(module)
    if isinstance(module, SingleHeadAttention):
        return _SingleHead(module)
    return module


def _with_identity(module: DepthwiseConv) -> nn.Module:
    """x + conv(x) as one convolution."""
    conv = module.conv
    assert isinstance(conv, nn.Conv2d)
    middle = conv.kernel_size[0] // 2
    conv.weight[:, 0, middle, middle] += 1.0
    return conv


def _rows(conv: nn.Conv2d, start: int, stop: int) -> nn.Conv2d:
    """The convolution that gives these output channels of a 1x1 `conv`."""
    part = nn.Conv2d(conv.in_channels, stop - start, 1).to(conv.weight)
    assert conv.bias is not None and part.bias is not None
    part.weight.copy_(conv.weight[start:stop])
    part.bias.copy_(conv.bias[start:stop])
    return part


def _on_tokens(conv: nn.Module) -> nn.Conv1d:
    """A 1x1 convolution for (B, C, N) instead of (B, C, H, W)."""
    assert isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1) and conv.bias is not None
    flat = nn.Conv1d(conv.in_channels, conv.out_channels, 1).to(conv.weight)
    assert flat.bias is not None
    flat.weight.copy_(conv.weight.flatten(2))
    flat.bias.copy_(conv.bias)
    return flat


def _one_depthwise(convs: nn.ModuleList) -> nn.Conv2d:
    """Depthwise convolutions of neighbouring channels as one: the smaller kernels padded with zeros."""
    parts = [conv for conv in convs if isinstance(conv, nn.Conv2d)]
    kernel = max(conv.kernel_size[0] for conv in parts)
    channels = sum(conv.out_channels for conv in parts)
    whole = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
    whole = whole.to(parts[0].weight)
    assert whole.bias is not None
    weights = [F.pad(conv.weight, [(kernel - conv.kernel_size[0]) // 2] * 4) for conv in parts]
    whole.weight.copy_(torch.cat(weights))
    whole.bias.copy_(torch.cat([conv.bias for conv in parts if conv.bias is not None]))
    return whole


class _Reuse(nn.Module):
    """Shape: (B, C, H, W) -> the same, the residual sum included."""

    bias: Tensor

    def __init__(self, folded: ReuseAttention) -> None:
        super().__init__()
        self.windows = folded.windows
        query_key, q = folded.query_key, folded.query_channels
        assert isinstance(query_key, nn.Conv2d) and folded.bias is not None
        self.query = _rows(query_key, 0, q)
        self.key = _rows(query_key, q, 2 * q)
        self.query_local = folded.query_local
        self.value = _one_depthwise(folded.value_scales)
        self.register_buffer("bias", folded.bias(0).detach().clone())
        self.output = folded.output

    def forward(self, x: Tensor) -> Tensor:
        inside = self.windows.split(x)
        q = self.query_local(self.query(inside)).flatten(2)  # (windows, C/4, N)
        scores = q.transpose(1, 2) @ self.key(inside).flatten(2) + self.bias  # (windows, N, N)
        v = self.value(inside)
        mixed = v.flatten(2) @ scores.softmax(dim=-1).transpose(1, 2)  # (windows, C, N)
        result: Tensor = x + self.output(self.windows.join(mixed.reshape(v.shape)))
        return result


class _CascadedGroup(nn.Module):
    """Shape: (B, C, H, W) -> the same, the residual sum included."""

    def __init__(self, folded: CascadedGroupAttention) -> None:
        super().__init__()
        self.windows = folded.windows
        self.head_channels = folded.head_channels
        self.split_sizes = folded.split_sizes
        self.query_key_value = nn.ModuleList(_on_tokens(conv) for conv in folded.query_key_value)
        self.query_local = folded.query_local
        self.output = folded.output
        for index in range(len(self.query_local)):
            self.register_buffer(f"bias{index}", folded.bias(index).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        inside = self.windows.split(x)
        heads: list[Tensor] = []
        for index, own in enumerate(inside.flatten(2).split(self.head_channels, dim=1)):
            heads.append(self._head(index, own + heads[-1] if heads else own))
        mixed = torch.cat(heads, dim=1).reshape(inside.shape)
        result: Tensor = x + self.output(self.windows.join(mixed))
        return result

    def _head(self, index: int, x: Tensor) -> Tensor:
        """One head, (windows, d, N) -> the same."""
        side = self.windows.size
        q, k, v = self.query_key_value[index](x).split(self.split_sizes, dim=1)
        q = self.query_local[index](q.reshape(-1, self.split_sizes[0], side, side)).flatten(2)
        scores = q.transpose(1, 2) @ k + getattr(self, f"bias{index}")  # (windows, N, N)
        mixed: Tensor = v @ scores.softmax(dim=-1).transpose(1, 2)
        return mixed


class _SingleHead(nn.Module):
    """Shape: (B, C, H, W) -> the same, the residual sum included."""

    def __init__(self, folded: SingleHeadAttention) -> None:
        super().__init__()
        self.parts, self.split_sizes = folded.parts, folded.split_sizes
        self.norm = folded.norm
        self.query_key_value = _on_tokens(folded.query_key_value)
        self.output = folded.output

    def forward(self, x: Tensor) -> Tensor:
        attending, rest = x.split(self.parts, dim=1)
        tokens = self.query_key_value(self.norm(attending).flatten(2))  # (B, 2 key_dim + channels, N)
        q, k, v = tokens.split(self.split_sizes, dim=1)
        scores = q.transpose(1, 2) @ k  # (B, N, N)
        mixed = v @ scores.softmax(dim=-1).transpose(1, 2)
        result: Tensor = x + self.output(torch.cat([mixed.reshape(attending.shape), rest], dim=1))
        return result
