"""Gradient norm: how strongly one batch pulls at the weights of the untrained network.

Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021: the norm of the gradient of each
layer's weights, summed over the layers; its logarithm here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from hwnas.predictors.accuracy.proxies._layers import weight_gradients

__all__ = ["score"]


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """ln of the sum over layers of the Euclidean norm of the weights' gradient, on the first batch."""
    return math.log(sum(float(gradient.norm()) for gradient in weight_gradients(network, *batches[0])))
