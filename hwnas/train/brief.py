"""Brief: a training of seconds or minutes, an update at a time, for what trains many networks.

AdamW, label smoothing, gradients that are cut, and a schedule of the caller's. Not `hwnas train`: there is no
checkpoint, and no recipe to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Brief"]

PEAK_LR = 1e-3
"""Of AdamW, for batches of `LR_BATCH_SIZE` images; with the root of their size for others."""
LR_BATCH_SIZE = 64
WEIGHT_DECAY, LABEL_SMOOTHING, CLIP_GRAD_NORM = 0.025, 0.1, 1.0


class Brief:
    """A network in training."""

    def __init__(self, network: nn.Module, *, batch_size: int, share_of_peak: Callable[[int], float]) -> None:
        """`share_of_peak` is the learning rate of an update, 0 the first, over its peak."""
        self._network = network.train()
        parameters = list(network.parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in parameters if one.ndim > 1], "weight_decay": WEIGHT_DECAY},
                {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=PEAK_LR * math.sqrt(batch_size / LR_BATCH_SIZE),
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, share_of_peak)

    def update(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Learns from a batch, (B, 3, R, R) and (B,); the network must be in train mode.

        What it answered before: logits, (B, classes).
        """
        self._optimizer.zero_grad(set_to_none=True)
        logits: torch.Tensor = self._network(images).float()
        F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING).backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), CLIP_GRAD_NORM)
        self._optimizer.step()
        self._schedule.step()
        return logits.detach()
