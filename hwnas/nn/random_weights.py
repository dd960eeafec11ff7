"""Random weights for networks that are only timed: nothing is zero, nothing overflows."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

__all__ = ["randomise"]

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def randomise(module: Module, *, seed: int = 0) -> Module:
    """Fills every weight and running statistic of `module`, in place, and returns it.

    A fresh network is the identity in most blocks: BatchNorm's weight and alpha start at 0. A
    runtime could skip such a branch, and products of zeros and denormals take another time than
    those of numbers. So the weights here are of a trained network's size: convolutions keep the
    variance, and branches that start at 0 add a tenth to a third.
    """
    random = torch.Generator().manual_seed(seed)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.rand(like.shape, generator=random, dtype=torch.float64) * (high - low) + low

    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            ends_branch = bool((part.weight == 0).all())
            part.weight.copy_(uniform(part.weight, *((0.1, 0.3) if ends_branch else (0.5, 1.5))))
            part.bias.copy_(uniform(part.bias, -0.2, 0.2))
            part.running_mean.copy_(uniform(part.running_mean, -0.2, 0.2))
            part.running_var.copy_(uniform(part.running_var, 0.5, 1.5))
        elif isinstance(part, nn.Conv2d | nn.Linear):
            bound = math.sqrt(3 / math.prod(part.weight.shape[1:]))
            part.weight.copy_(uniform(part.weight, -bound, bound))
            if part.bias is not None:
                part.bias.copy_(uniform(part.bias, -0.2, 0.2))
        elif not isinstance(part, nn.GroupNorm):
            for weight in part.parameters(recurse=False):  # bias tables, alpha
                weight.copy_(uniform(weight, 0.1, 0.9))
    return module
