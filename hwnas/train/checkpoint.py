"""Checkpoint: a classifier's training so far - all that it needs to go on, and others to use its network.

How it lies in a file is in `hwnas.train.sealed`, which files a folder has in
`hwnas.train.checkpoint_folder`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import FileFormatError, UsageError
from hwnas.space import ArchSpec
from hwnas.train.checkpoint_folder import BEST, LAST, PREVIOUS, first_whole, put
from hwnas.train.recipe import Recipe
from hwnas.train.sealed import Tensors, below, read_sealed, sealed
from hwnas.train.training_state import TrainingState, packed, unpacked

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

FORMAT = 1  # 1: the first one
KIND = "hwnas checkpoint"


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
class Checkpoint:
    """A trained network and how it came about."""

    arch: ArchSpec
    """As trained: adapted to the images' size and classes."""
    state_dict: Tensors
    """The weights to use: the moving average where one is kept. On the CPU, float32."""
    classes_names: tuple[str, ...]
    """Name of each logit."""
    recipe: Recipe
    history: tuple[EpochRecord, ...]
    """A record for each finished epoch."""
    name: str = ""
    """What the architecture was called on the command line, such as uniform-t."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the images: see `hwnas.train.loop`."""
    training: TrainingState | None = None
    """None in `best`."""
    path: Path | None = None
    """The file it was loaded from."""
    skipped: tuple[str, ...] = ()
    """Why better or newer files were passed over, a sentence each."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint to `path`, atomically: it is either there whole or not at all.

    Raises HwnasError when the disk is full or the folder cannot be written; what was there stays.
    """
    put(_encoded(checkpoint), path)


def load(path: Path | str) -> Checkpoint:
    """The checkpoint in a file, or the best one of a training's folder.

    In a folder a damaged file is passed over for the next: best, last, previous; `skipped` says so.
    Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or foreign.
    """
    found, skipped = first_whole(Path(path), (BEST, LAST, PREVIOUS), _read)
    return dataclasses.replace(found, skipped=skipped)


def resume_point(folder: Path) -> Checkpoint:
    """The newest whole checkpoint of a training's folder that can be resumed. Raises as `load`."""
    found, skipped = first_whole(folder, (LAST, PREVIOUS), _read)
    return dataclasses.replace(found, skipped=skipped)


def trained_network(checkpoint: Checkpoint) -> torch.nn.Module:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    from hwnas.nn import build

    network = build(checkpoint.arch)
    try:
        network.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise FileFormatError(f"{checkpoint.path}: the weights are of another network: {error}") from None
    return network.eval()


def _encoded(checkpoint: Checkpoint) -> bytes:
    tensors: Tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "name": checkpoint.name,
        "arch": checkpoint.arch.to_dict(),
        "classes_names": list(checkpoint.classes_names),
        "recipe": checkpoint.recipe.to_dict(),
        "data": dict(checkpoint.data),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "training": None,
    }
    if checkpoint.training is not None:
        state, document["training"] = packed(checkpoint.training, checkpoint.state_dict)
        tensors |= state
    return sealed(tensors, document)


def _read(path: Path) -> Checkpoint:
    document, tensors = read_sealed(path, kind=KIND, version=FORMAT)
    try:
        weights = below(tensors, "weights/")
        training = document["training"]
        return Checkpoint(
            arch=ArchSpec.from_dict(document["arch"], source=f"{path}: arch"),
            state_dict=weights,
            classes_names=tuple(document["classes_names"]),
            recipe=Recipe.from_dict(document["recipe"], source=f"{path}: recipe"),
            history=tuple(EpochRecord(**record) for record in document["history"]),
            name=document["name"],
            data=document["data"],
            training=None if training is None else unpacked(training, tensors, weights),
            path=path,
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from None
