"""Optimiser, learning-rate schedule and precision of a recipe; and short trainings without a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hwnas import plugins
from hwnas.train.recipe import TrainingRecipe

__all__ = [
    "ShortTraining",
    "decay_groups",
    "make_optimizer",
    "make_schedule",
    "matrix_precision",
]


def make_optimizer(
    network: nn.Module, recipe: TrainingRecipe, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network's parameters, at its peak learning rate.

    `fused` makes one pass over each tensor instead of several: faster for large tensors, other rounding.
    """
    timm_optim: Any = plugins.require("timm.optim", extra="torch")
    optimizer: torch.optim.Optimizer = timm_optim.create_optimizer_v2(
        decay_groups(network, recipe.weight_decay),
        opt=recipe.optimizer,
        lr=recipe.peak_lr,
        **({"fused": True} if fused else {}),
    )
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, steps: int) -> Any:
    """Linear warm-up, then a cosine, by updates; `steps` is the updates of an epoch."""
    timm_scheduler: Any = plugins.require("timm.scheduler", extra="torch")
    warmup = round(recipe.warmup_epochs * steps)
    return timm_scheduler.CosineLRScheduler(
        optimizer,
        t_initial=max(2, recipe.epochs * steps),
        lr_min=min(recipe.min_lr, recipe.peak_lr),
        warmup_t=warmup,
        warmup_lr_init=min(recipe.warmup_lr, recipe.peak_lr) if warmup else 0.0,
        t_in_epochs=False,
    )


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay, as in DeiT: kernels and matrices decay; biases, norms,
    scalars and tables of attention biases (`...bias.table`) do not."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (decayed if parameter.ndim > 1 and not name.endswith("bias.table") else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def matrix_precision(precision: str, device: str) -> torch.dtype | None:
    """What matrix work is cast to; None leaves it in float32."""
    if precision == "fp32" or (precision == "mixed" and device == "cpu"):
        return None
    if device == "cpu" or torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float16


# --- short trainings: seconds or minutes, one update at a time -------------------------------
# For code that trains many networks. No recipe, no checkpoint.

PEAK_LR = 1e-3
"""Of AdamW, for batches of `LR_BATCH_SIZE` images; with the root of their size for others."""
LR_BATCH_SIZE = 64
WEIGHT_DECAY, LABEL_SMOOTHING, CLIP_GRAD_NORM = 0.025, 0.1, 1.0


class ShortTraining:
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
