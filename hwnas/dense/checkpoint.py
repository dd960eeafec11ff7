"""DenseCheckpoint: a dense training so far, in the same kind of file and folder as a classifier's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwnas.dense.networks import DenseNetwork, build_dense
from hwnas.dense.recipe import DenseRecipe
from hwnas.train.checkpoint import Kind, Saved

__all__ = ["DenseCheckpoint", "DenseRecord", "load", "resume_point", "save", "trained_network"]


@dataclass(frozen=True, slots=True)
class DenseRecord:
    """What one epoch did."""

    epoch: int
    """1 for the first."""
    loss: float
    """Mean training loss."""
    scores: Mapping[str, float]
    """Percent by name, as `hwnas.dense.scores` calls them."""
    lr: float
    """Learning rate of the last update."""
    seconds: float
    """Wall clock, evaluation included."""

    @property
    def outcome(self) -> str:
        """How good the network is now, in words."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.2f} %" for name, value in self.scores.items())


@dataclass(frozen=True, slots=True)
class DenseCheckpoint(Saved[DenseRecipe, DenseRecord]):
    """A trained detector or segmentation network and how it came about; label 1 is the first class."""

    task: str = field(kw_only=True)
    """detect, instance or segment."""


_KIND = Kind("hwnas dense checkpoint", DenseCheckpoint, DenseRecipe, DenseRecord, more=("task",))

save, load, resume_point = _KIND.save, _KIND.load, _KIND.resume_point


def trained_network(checkpoint: DenseCheckpoint) -> DenseNetwork:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    classes = len(checkpoint.classes_names)
    network = build_dense(checkpoint.arch, checkpoint.task, classes, checkpoint.recipe)
    checkpoint.into(network)
    return network
