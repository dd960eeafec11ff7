"""What the proxies share: which layers count, and the gradients of a batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["weight_gradients", "weighted_layers"]


def weighted_layers(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers, in order: the ones whose weights proxies sum over."""
    return [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def weight_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The gradient of the batch's mean cross-entropy for each of `weighted_layers`, in their order."""
    weights = [layer.weight for layer in weighted_layers(network)]
    loss = F.cross_entropy(network(images), labels)
    return list(torch.autograd.grad(loss, weights))
