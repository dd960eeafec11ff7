"""SynFlow: how much flows through the weights, without looking at data.

Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow, NeurIPS
2020, equation 2, as a score of networks in Abdelfattah et al., ICLR 2021; its logarithm here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from hwnas.predictors.accuracy.proxies._layers import weighted_layers
from hwnas.predictors.accuracy.proxies._positive import flow_

__all__ = ["score"]


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """ln of the sum over all weights of |weight x gradient|, see `flow_`."""
    flow_(network, batches[0][0])
    total = 0.0
    for layer in weighted_layers(network):
        assert layer.weight.grad is not None
        total += float((layer.weight.detach() * layer.weight.grad).abs().sum())
    return math.log(total)
