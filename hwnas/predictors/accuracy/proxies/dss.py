"""DSS: for vision transformers, diversity of the attentions' weights plus saliency of the others'.

Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, equations 5 to 7: a weight
matrix of an attention counts with the product of its nuclear norm and its gradient's, which falls where
the rank collapses; any other with the sum of |weight x gradient|. Differs in that a convolution's
kernel (out, in, k, k) is taken as a matrix (out, in k k), and in the logarithm at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwnas.nn.network import Network
from hwnas.predictors.accuracy.proxies._layers import weighted_layers
from hwnas.predictors.accuracy.proxies._positive import flow_
from hwnas.space.arch import ATTENTIONS

__all__ = ["diversity", "score"]


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """ln of the attentions' diversity plus the saliency of all other weights."""
    assert isinstance(network, Network), "DSS must know which weights are of attentions"
    flow_(network, batches[0][0])
    attending = {
        id(layer)
        for op in network.ops
        if op.kind in ATTENTIONS
        for layer in weighted_layers(network.get_submodule(op.place))
    }
    total = 0.0
    for layer in weighted_layers(network):
        weight, gradient = layer.weight.detach(), layer.weight.grad
        assert gradient is not None
        if id(layer) in attending:
            total += diversity(weight, gradient)
        else:
            total += float((weight * gradient).abs().sum())
    return math.log(total)


def diversity(weight: Tensor, gradient: Tensor) -> float:
    """The product of the nuclear norms of a weight, (out, ...), and its gradient, as matrices."""
    norms = [torch.linalg.matrix_norm(part.flatten(1), ord="nuc") for part in (weight, gradient)]
    return float(norms[0] * norms[1])
