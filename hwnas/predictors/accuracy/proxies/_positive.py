"""The network with positive weights on an image of ones: data-free saliency, for SynFlow and DSS."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["flow_"]


def flow_(network: nn.Module, like: Tensor) -> None:
    """Gives every parameter its absolute value and the gradient of the sum of logits, in place.

    `like`: images (B, 3, R, R), of which only the size counts; the input is one image of ones. In eval
    mode, where a fresh BatchNorm passes on what it gets, and in float64: values grow with the depth.
    """
    network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    ones = torch.ones(1, *like.shape[1:], dtype=torch.float64)
    network(ones).sum().backward()
