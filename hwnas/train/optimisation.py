"""Optimiser and learning-rate schedule of a recipe, both timm's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas import plugins
from hwnas.train.recipe import Recipe

__all__ = ["decay_groups", "make_optimizer", "make_schedule"]


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the network's parameters, at its peak learning rate."""
    timm_optim: Any = plugins.require("timm.optim", extra="torch")
    optimizer: torch.optim.Optimizer = timm_optim.create_optimizer_v2(
        decay_groups(network, recipe.weight_decay),
        opt=recipe.optimizer,
        lr=recipe.peak_lr,
    )
    return optimizer


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> Any:
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
    """Parameters with and without weight decay: kernels and matrices have it; biases, norms, scalars
    and tables of attention biases don't (as in DeiT)."""
    biases = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if type(module).__name__ == "AttentionBias"
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (decayed if parameter.ndim > 1 and name not in biases else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
