"""fold(network): the same function with BatchNorm, scales and gates inside the convolutions."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from hwnas.nn.conv_norm import ConvNorm, norm_as_affine

__all__ = ["Affine", "fold"]

Module = TypeVar("Module", bound=nn.Module)


class Affine(nn.Module):
    """x * scale + shift per channel: a BatchNorm that no convolution stands next to.

    Shape: (B, C, H, W) -> the same.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.detach().clone().view(-1, 1, 1))
        self.shift = nn.Parameter(shift.detach().clone().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def fold(network: Module) -> Module:
    """A copy in eval mode without BatchNorm; gives what `network` gives in eval mode.

    A module with more to fold than convolutions has a method `fold_()`, which is called when
    everything inside it is folded.

    BatchNorm goes into the convolution or Linear beside it, the softmax's scale into the query's
    convolution, EleViT's alpha into the value's. The original stays as it is. Folding is done in
    float64 and rounded once, to the type of the weights.
    """
    folded = copy.deepcopy(network).eval()
    kept = next((weight.dtype for weight in folded.parameters()), torch.float32)
    folded.double()
    with torch.no_grad():
        _fold(folded)
    return folded.to(kept)


def _fold(module: nn.Module) -> None:
    """Folds from the inside out."""
    for name, child in list(module.named_children()):
        if isinstance(child, ConvNorm):
            setattr(module, name, child.folded())
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, Affine(*norm_as_affine(child)))
        else:
            _fold(child)
    fold_ = getattr(module, "fold_", None)
    if fold_ is not None:
        fold_()
