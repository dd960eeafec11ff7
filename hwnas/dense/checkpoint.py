"""DenseCheckpoint: a dense training so far, in the same kind of file and folder as a classifier's."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torchvision

from hwnas import __version__
from hwnas.dense.evaluation import LEADING
from hwnas.dense.networks import DenseNetwork, build_dense
from hwnas.dense.recipe import DenseRecipe
from hwnas.train.checkpoint import Kind, SavedNetwork

__all__ = [
    "KIND",
    "DenseCheckpoint",
    "DenseRecord",
    "load",
    "result_document",
    "resume_point",
    "save",
    "trained_network",
]


@dataclass(frozen=True, slots=True)
class DenseRecord:
    """What one epoch did."""

    epoch: int
    """1 for the first."""
    loss: float
    """Mean training loss."""
    scores: Mapping[str, float]
    """Percent by name, as `hwnas.dense.evaluation` calls them."""
    lr: float
    """Learning rate of the last update."""
    seconds: float
    """Wall clock, evaluation included."""

    @property
    def outcome(self) -> str:
        """How good the network is now, in words."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.2f} %" for name, value in self.scores.items())


@dataclass(frozen=True, slots=True)
class DenseCheckpoint(SavedNetwork[DenseRecipe, DenseRecord]):
    """A trained detector or segmentation network and how it came about; label 1 is the first class."""

    task: str = field(kw_only=True)
    """detect, instance or segment."""


KIND = Kind("hwnas dense checkpoint", DenseCheckpoint, DenseRecipe, DenseRecord, more=("task",))

save, load, resume_point = KIND.save, KIND.load, KIND.resume_point


def trained_network(checkpoint: DenseCheckpoint) -> DenseNetwork:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    classes = len(checkpoint.classes_names)
    network = build_dense(checkpoint.arch, checkpoint.task, classes, checkpoint.recipe)
    checkpoint.into(network)
    return network


# --- result.json ------------------------------------------------------------------------------

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
