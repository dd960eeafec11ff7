"""Checkpoint: a classifier's training so far. All of it but the epoch's record is in `hwnas.train.saved`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.train.checkpoint_folder import BEST, LAST, PREVIOUS
from hwnas.train.recipe import Recipe
from hwnas.train.saved import Kind, Saved
from hwnas.train.training_state import TrainingState

if TYPE_CHECKING:
    import torch

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "Checkpoint",
    "EpochRecord",
    "TrainingState",
    "load",
    "resume_point",
    "save",
    "trained_network",
]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did."""

    epoch: int
    """1 for the first."""
    loss: float
    """Mean training loss."""
    top1_percent: float
    """Accuracy on the evaluation images (of the moving average, where one is kept)."""
    top5_percent: float
    lr: float
    """Learning rate of the last update."""
    seconds: float
    """Wall clock, evaluation included."""

    @property
    def outcome(self) -> str:
        """How good the network is now, in words."""
        return f"top-1 {self.top1_percent:.2f} %"


@dataclass(frozen=True, slots=True)
class Checkpoint(Saved[Recipe, EpochRecord]):
    """A trained classifier and how it came about."""


_KIND = Kind("hwnas checkpoint", Checkpoint, Recipe, EpochRecord)

save, load, resume_point = _KIND.save, _KIND.load, _KIND.resume_point


def trained_network(checkpoint: Checkpoint) -> torch.nn.Module:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    from hwnas.nn import build

    network = build(checkpoint.arch)
    checkpoint.into(network)
    return network
