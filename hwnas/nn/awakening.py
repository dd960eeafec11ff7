"""Awakening: opens the branches that a fresh network starts with closed."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

__all__ = ["awakened"]

Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def awakened(module: Module, weight: float = 1.0) -> Module:
    """The module, in place, with every branch at work.

    A fresh network of these families is the identity in its blocks: the BatchNorm that ends a branch starts
    at weight 0, or the gate of element-wise attention does. Trained long, it opens them itself. The
    BatchNorms are set to `weight` here, and gates to 1.
    """
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and bool((part.weight == 0).all()):
            part.weight.fill_(weight)
        gate = part._parameters.get("alpha")
        if gate is not None and bool((gate == 0).all()):
            gate.fill_(1)
    return module
