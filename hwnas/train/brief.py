"""Brief: a training of seconds or minutes, an update at a time, for what trains many networks.

AdamW, a linear warm-up, a cosine down to 0; label smoothing, and gradients that are cut. Not `hwnas train`:
there is no checkpoint, and no recipe to choose.
"""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["Brief"]

PEAK_LR = 1e-3
"""Of AdamW, for batches of `LR_BATCH_SIZE` images; with the root of their size for others."""
LR_BATCH_SIZE = 64
WEIGHT_DECAY, LABEL_SMOOTHING, CLIP_GRAD_NORM = 0.025, 0.1, 1.0


class Brief:
    """A network in training, with so many updates before it."""

    def __init__(self, network: nn.Module, *, updates: int, warmup: int, batch_size: int) -> None:
        """The learning rate rises over the first `warmup` updates, and reaches 0 after all."""
        self._network = network.train()
        self._criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
        parameters = list(network.parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in parameters if one.ndim > 1], "weight_decay": WEIGHT_DECAY},
                {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=PEAK_LR * math.sqrt(batch_size / LR_BATCH_SIZE),
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda update: _share_of_peak(update, updates, warmup)
        )

    def update(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Learns from a batch, (B, 3, R, R) and (B,); the network must be in train mode."""
        self._optimizer.zero_grad(set_to_none=True)
        self._criterion(self._network(images).float(), labels).backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), CLIP_GRAD_NORM)
        self._optimizer.step()
        self._schedule.step()


def _share_of_peak(update: int, updates: int, warmup: int) -> float:
    """The learning rate of an update, 0 the first, over its peak."""
    if update < warmup:
        return (update + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (update - warmup) / max(1, updates - warmup)))
