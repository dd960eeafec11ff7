"""BatchNorm's statistics for one network's slices: shared ones would be those of no network at all."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Sets every running mean and variance to their average over `batches`; leaves the network in eval mode.

    `batches` are images, (B, 3, R, R) each, all of one size B: every batch counts alike. Each batch is
    normalised with its own statistics on the way, as in training (Yu and Huang, Universally Slimmable
    Networks, ICCV 2019, section 3.2).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    try:
        for images in batches:
            network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return network.eval()
