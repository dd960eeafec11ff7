"""result.json: what a finished training came to, small enough to collect by the hundred."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import timm
import torch

from hwnas import __version__
from hwnas.space import lower
from hwnas.train.checkpoint import Checkpoint

__all__ = ["result_document"]

SCHEMA = 1  # 1: the first one


def result_document(checkpoint: Checkpoint, *, device: str, evaluation_split: str) -> dict[str, Any]:
    """Plain data: the network, its accuracy by epoch, the recipe, the time and the environment.

    `top1_percent` is that of the last epoch; the best one is chosen on the very images it is measured
    on, so it flatters.
    """
    ops = lower(checkpoint.arch)
    last = checkpoint.history[-1]
    best = max(checkpoint.history, key=lambda record: record.top1_percent)
    return {
        "schema": SCHEMA,
        "kind": "training",
        "name": checkpoint.name,
        "id": checkpoint.arch.id,
        "params": sum(op.params for op in ops),
        "macs": sum(op.macs for op in ops),
        "seed": checkpoint.recipe.seed,
        "top1_percent": last.top1_percent,
        "top5_percent": last.top5_percent,
        "best_top1_percent": best.top1_percent,
        "best_epoch": best.epoch,
        "epochs": checkpoint.epoch,
        "train_seconds": sum(record.seconds for record in checkpoint.history),
        "data": {**checkpoint.data, "evaluation_split": evaluation_split},
        "classes_names": list(checkpoint.classes_names),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "recipe": checkpoint.recipe.to_dict(),
        "environment": {
            "hwnas": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "threads": torch.get_num_threads(),
        },
        "arch": checkpoint.arch.to_dict(),
    }
