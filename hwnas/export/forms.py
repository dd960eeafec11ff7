"""Forms of a folded op: modules that compute the same with other nodes.

`reference` is what `fold` gives: the published network's own nodes, which `hwnas.space.ops` counts. The
other forms follow from it by algebra alone. `hwnas.export.deployment_graph` says which runtime gets which.

- `merged` depthwise convolution: the residual sum is inside, 1 is added to the middle of each kernel.
- `merged` reuse attention: the heads' depthwise convolutions, their kernels zero-padded to the largest, are
  one over all channels; Q and K have a convolution each, so that nothing is split between Q's two.
- `tokens` for cascaded group and single-head attention: 1x1 convolutions that only matrix products follow
  work on (C, N) instead of (C, H, W): a runtime need not lay their outputs out anew.

All attention forms but the reference join windows before the last 1x1 convolution, so that the residual sum
follows it directly, and have ReLU right behind the node that computes, where int8 runtimes merge it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import HwnasError
from hwnas.nn.attention.cascaded_group import CascadedGroupAttention
from hwnas.nn.attention.reuse import ReuseAttention
from hwnas.nn.attention.single_head import SingleHeadAttention
from hwnas.nn.blocks import DepthwiseConv

__all__ = ["REFERENCE", "form_names", "in_form"]

REFERENCE = "reference"


def form_names(kind: str) -> tuple[str, ...]:
    """The forms that an op of this kind has, the reference first."""
    return REFERENCE, *_FORMS.get(kind, {})


@torch.no_grad()
def in_form(folded: nn.Module, kind: str, form: str) -> nn.Module:
    """The folded op in a form; may take weights from `folded` and change them.

    The reference is `folded` itself, and so is the form of an op whose settings leave nothing to change.
    """
    if form == REFERENCE:
        return folded
    if form not in form_names(kind):
        raise HwnasError(f"internal error: no form '{form}' of '{kind}', only {', '.join(form_names(kind))}")
    return _FORMS[kind][form](folded)


def _with_identity(module: nn.Module) -> nn.Module:
    """x + conv(x) as one convolution."""
    assert isinstance(module, DepthwiseConv)
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
        self.output = _after_relu(folded.output)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.windows.split(x)
        q = self.query_local(self.query(inside)).flatten(2)  # (windows, C/4, N)
        scores = q.transpose(1, 2) @ self.key(inside).flatten(2) + self.bias  # (windows, N, N)
        v = self.value(inside)
        mixed = F.relu(v.flatten(2) @ scores.softmax(dim=-1).transpose(1, 2))  # (windows, C, N)
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
        self.output = _after_relu(folded.output)
        for index in range(len(self.query_local)):
            self.register_buffer(f"bias{index}", folded.bias(index).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        inside = self.windows.split(x)
        heads: list[Tensor] = []
        for index, own in enumerate(inside.flatten(2).split(self.head_channels, dim=1)):
            heads.append(self._head(index, own + heads[-1] if heads else own))
        mixed = F.relu(torch.cat(heads, dim=1)).reshape(inside.shape)
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
        self.output = _after_relu(folded.output)

    def forward(self, x: Tensor) -> Tensor:
        attending, rest = x.split(self.parts, dim=1)
        tokens = self.query_key_value(self.norm(attending).flatten(2))  # (B, 2 key_dim + channels, N)
        q, k, v = tokens.split(self.split_sizes, dim=1)
        scores = q.transpose(1, 2) @ k  # (B, N, N)
        mixed = v @ scores.softmax(dim=-1).transpose(1, 2)
        joined = torch.cat([mixed.reshape(attending.shape), rest], dim=1)
        result: Tensor = x + self.output(F.relu(joined))
        return result


def _after_relu(output: nn.Module) -> nn.Module:
    """The convolution of an attention's `output`, which starts with ReLU."""
    assert isinstance(output, nn.Sequential) and isinstance(output[0], nn.ReLU) and len(output) == 2
    return output[1]


def _reuse(module: nn.Module) -> nn.Module:
    """The variant `paper` has one convolution for Q, K and one for V, and no bias: nothing is changed."""
    assert isinstance(module, ReuseAttention)
    return _Reuse(module) if isinstance(module.query_local, nn.Conv2d) else module


def _cascaded_group(module: nn.Module) -> nn.Module:
    assert isinstance(module, CascadedGroupAttention)
    return _CascadedGroup(module)


def _single_head(module: nn.Module) -> nn.Module:
    assert isinstance(module, SingleHeadAttention)
    return _SingleHead(module)


_FORMS: Mapping[str, Mapping[str, Callable[[nn.Module], nn.Module]]] = {
    "dw": {"merged": _with_identity},
    "reuse": {"merged": _reuse},
    "cascaded-group": {"tokens": _cascaded_group},
    "single-head": {"tokens": _single_head},
}
"""By op kind. A kind that is not listed is deployed in its reference form."""
