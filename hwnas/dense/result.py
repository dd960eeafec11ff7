"""result.json: what a finished dense training came to."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import torch
import torchvision

from hwnas import __version__
from hwnas.dense.checkpoint import DenseCheckpoint
from hwnas.dense.scores import LEADING

__all__ = ["result_document"]

SCHEMA = 1  # 1: the first one


def result_document(checkpoint: DenseCheckpoint, *, device: str) -> dict[str, Any]:
    """Plain data: the network, its scores by epoch, the recipe, the time and the environment.

    `scores` are those of the last epoch; the best one is chosen on the very images it is measured on,
    so it flatters.
    """
    leading = LEADING[checkpoint.task]
    last = checkpoint.history[-1]
    best = max(checkpoint.history, key=lambda record: record.scores[leading])
    return {
        "schema": SCHEMA,
        "kind": "dense training",
        "task": checkpoint.task,
        "name": checkpoint.name,
        "id": checkpoint.arch.id,
        "promise": None if checkpoint.promise is None else checkpoint.promise.to_dict(),
        "seed": checkpoint.recipe.seed,
        "scores_percent": dict(last.scores),
        "best_scores_percent": dict(best.scores),
        "best_epoch": best.epoch,
        "epochs": checkpoint.epoch,
        "train_seconds": sum(record.seconds for record in checkpoint.history),
        "data": dict(checkpoint.data),
        "classes_names": list(checkpoint.classes_names),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "recipe": checkpoint.recipe.to_dict(),
        "environment": {
            "hwnas": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "threads": torch.get_num_threads(),
        },
        "arch": checkpoint.arch.to_dict(),
    }
