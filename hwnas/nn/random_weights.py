"""Random weights for networks that are only timed: nothing is zero, nothing overflows."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

from hwnas.nn.conv_norm import ConvNorm

__all__ = ["randomise"]

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def randomise(module: Module, *, seed: int = 0) -> Module:
    """Fills every weight and running statistic of `module`, in place, and returns it.

    A fresh network is the identity in most blocks: BatchNorm's weight and alpha start at 0. A
    runtime could skip such a branch, and products of zeros and denormals take another time than
    those of numbers. So the weights here are of a trained network's size: a convolution before
    BatchNorm keeps the variance, and what a branch adds at its end is a tenth to a third.
    """
    random = torch.Generator().manual_seed(seed)
    normalised = {id(part.conv) for part in module.modules() if isinstance(part, ConvNorm)}
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            ends_branch = bool((part.weight == 0).all())
            low, high = (0.1, 0.3) if ends_branch else (0.5, 1.5)
            part.weight.uniform_(low, high, generator=random)
            part.bias.uniform_(-0.2, 0.2, generator=random)
            part.running_mean.uniform_(-0.2, 0.2, generator=random)
            part.running_var.uniform_(0.5, 1.5, generator=random)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            gain = 1.0 if id(part) in normalised else 0.1
            bound = math.sqrt(3 * gain / math.prod(part.weight.shape[1:]))
            part.weight.uniform_(-bound, bound, generator=random)
            if part.bias is not None:
                part.bias.uniform_(-0.2, 0.2, generator=random)
        elif not isinstance(part, nn.GroupNorm):
            for weight in part.parameters(recurse=False):  # bias tables, alpha
                weight.uniform_(0.1, 0.9, generator=random)
    return module
