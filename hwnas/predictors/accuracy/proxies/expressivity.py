"""Expressivity: in how many directions the features of the untrained network spread.

Lee and Ham, AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, CVPR 2024, section
3.2: the entropy of the shares of variance along the principal directions of a block's output, summed
over blocks. Here the input are images rather than noise, and what is summed over are the ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.nn.network import Network

__all__ = ["entropy", "score"]


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The sum of the entropies of what each op but the head gives, on the first batch."""
    assert isinstance(network, Network), "expressivity is told op by op"
    found: list[float] = []

    def take(module: nn.Module, given: Any, output: Tensor) -> None:
        found.append(entropy(output.transpose(0, 1).flatten(1).T))  # (B H W, C)

    hooks = [
        network.get_submodule(op.place).register_forward_hook(take)
        for op in network.ops
        if op.place != "head"
    ]
    with torch.no_grad():
        network(batches[0][0])
    for hook in hooks:
        hook.remove()
    return sum(found)


def entropy(features: Tensor) -> float:
    """Of the shares of variance along the principal directions of features (n, C); at most ln C."""
    features = features.double()
    centred = features - features.mean(dim=0)
    variances = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    total = variances.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(variances / total).sum())
