"""Checkpoint of a supernet: its shared weights, their space, and the state of their training.

OUT/weights.safetensors    the shared weights after the last finished epoch
OUT/last.safetensors       the same, with optimiser and schedule
OUT/previous.safetensors   after the epoch before
OUT/images.safetensors     the images that subnets are evaluated on, see `hwnas.supernet.images`
OUT/history.jsonl          a line an epoch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hwnas.space import SearchSpace
from hwnas.supernet.settings import Settings
from hwnas.train.checkpoint import Kind, Saved

__all__ = ["KIND", "WEIGHTS", "Checkpoint", "EpochRecord", "load", "resume_point", "save"]

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did."""

    epoch: int
    """1 for the first."""
    loss: float
    """Mean training loss of the largest subnets."""
    largest_percent: dict[str, float]
    """Accuracy of the largest subnet of each attention type on the held-back images, with the shared
    weights."""
    smallest_percent: dict[str, float]
    """The same of the smallest."""
    lr: float
    """Learning rate of the last update."""
    seconds: float
    """Wall clock, evaluation included."""

    @property
    def outcome(self) -> str:
        """The accuracies, as text for people."""

        def span(percent: Mapping[str, float]) -> str:
            low, high = min(percent.values()), max(percent.values())
            return f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"

        return f"top-1 {span(self.largest_percent)} % (largest), {span(self.smallest_percent)} % (smallest)"


@dataclass(frozen=True, slots=True)
class Checkpoint(Saved[Settings, EpochRecord]):
    """A supernet and how it came about; `state_dict` has the shared weights by slot."""

    space: SearchSpace = field(kw_only=True)
    """As trained: with the images' classes, and their sizes."""

    def other_design(self, requested: Checkpoint) -> str:
        """'' for the same space."""
        same = self.space.to_dict() == requested.space.to_dict()
        return "" if same else "space: another one there"


KIND = Kind(
    "hwnas supernet",
    Checkpoint,
    Settings,
    EpochRecord,
    design="space",
    read_design=SearchSpace.from_dict,
    recipe_key="settings",
    weights_file=WEIGHTS,
    subject="supernet",
)

save, load, resume_point = KIND.save, KIND.load, KIND.resume_point
