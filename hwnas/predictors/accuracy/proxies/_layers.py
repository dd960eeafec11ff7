"""What the proxies share: which layers count, waking a fresh network up, gradients of a batch."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["awakened", "weight_gradients", "weighted_layers"]

Module = TypeVar("Module", bound=nn.Module)


def weighted_layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers, in order: the ones whose weights proxies sum over."""
    return [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]


@torch.no_grad()
def awakened(network: Module) -> Module:
    """The network, in place, with every branch at work.

    A fresh network of these families is the identity in its blocks: the BatchNorm that ends a branch
    starts at weight 0, and so does the gate of element-wise attention. What a proxy measured on it would
    tell of stem, downsampling and head alone. Both are set to 1 here.
    """
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and bool((part.weight == 0).all()):
            part.weight.fill_(1)
        gate = part._parameters.get("alpha")
        if gate is not None and bool((gate == 0).all()):
            gate.fill_(1)
    return network


def weight_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The gradient of the batch's mean cross-entropy for each of `weighted_layers`, in their order."""
    weights = [layer.weight for layer in weighted_layers(network)]
    loss = F.cross_entropy(network(images), labels)
    return list(torch.autograd.grad(loss, weights))
