"""ZiCo: whether the gradients of several batches agree, relative to how they vary.

Li et al., ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients, ICLR 2023, equation
15. As in the released code, the deviation is that of the signed gradients, and weights whose gradient
does not vary at all are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwnas.predictors.accuracy.proxies._layers import weight_gradients

__all__ = ["agreement", "score"]


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The sum over layers of `agreement`; needs two batches or more."""
    by_batch = [weight_gradients(network, images, labels) for images, labels in batches]
    return sum(agreement(torch.stack(layer)) for layer in zip(*by_batch, strict=True))


def agreement(gradients: Tensor) -> float:
    """ln of the sum over a layer's weights of mean |gradient| / deviation, over batches.

    `gradients`: (batches, ...). 0 for a layer whose gradients are all the same, or all zero.
    """
    gradients = gradients.double()
    deviations = gradients.std(dim=0, correction=0)
    varying = deviations > 0
    total = float((gradients.abs().mean(dim=0)[varying] / deviations[varying]).sum())
    return math.log(total) if total > 0 else 0.0
