"""Readout: how well the images' classes can be told from what the untrained stages give.

A ridge regression from the stages' outputs, averaged over positions, to the classes; judged on each
image by a regression without it, which takes no second fit (Allen's PRESS). Random features that serve a
linear readout are a start that a training can build on. No paper: in the spirit of random-feature
kernels (Rahimi and Recht, NeurIPS 2007).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.network import Network

__all__ = ["left_out_error", "score"]

RIDGE = 0.1
"""Of a kernel whose diagonal is 1 on average."""


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Less the mean squared error of the classes left out, over the images of all batches, seen as one."""
    assert isinstance(network, Network), "the readout needs the outputs of the stages"
    images = torch.cat([images for images, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    with torch.no_grad():
        stages = network.forward_features(images)
    features = torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1)  # (B, sum of widths)
    return -left_out_error(features.double(), F.one_hot(labels).double())


def left_out_error(features: Tensor, targets: Tensor) -> float:
    """Mean squared error of targets (n, m), each predicted from features (n, C) by a fit without it.

    Features are standardised, targets centred, over all n.
    """
    spread = features.std(dim=0, correction=0)
    features = (features - features.mean(dim=0))[:, spread > 0] / spread[spread > 0]
    targets = targets - targets.mean(dim=0)
    kernel = features @ features.T / max(1, features.shape[1])  # (n, n)
    ridge = RIDGE * torch.eye(len(kernel), dtype=kernel.dtype)
    fitted = torch.linalg.solve(kernel + ridge, kernel)
    left_out = (targets - fitted @ targets) / (1 - fitted.diagonal())[:, None]
    return float(left_out.square().mean())
