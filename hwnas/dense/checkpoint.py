"""DenseCheckpoint: a dense training so far, in the same kind of file and folder as a classifier's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.dense.networks import DenseNetwork, build_dense
from hwnas.dense.recipe import DenseRecipe
from hwnas.errors import FileFormatError, UsageError
from hwnas.space import ArchSpec
from hwnas.train.checkpoint_folder import BEST, LAST, PREVIOUS, first_whole, put
from hwnas.train.sealed import Tensors, below, read_sealed, sealed
from hwnas.train.training_state import TrainingState, packed, unpacked

__all__ = ["DenseCheckpoint", "DenseRecord", "load", "resume_point", "save", "trained_network"]

FORMAT = 1  # 1: the first one
KIND = "hwnas dense checkpoint"


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
class DenseCheckpoint:
    """A trained detector or segmentation network and how it came about."""

    arch: ArchSpec
    """The backbone, adapted to the images' size."""
    task: str
    """detect, instance or segment."""
    state_dict: Tensors
    """The weights to use: the moving average where one is kept. On the CPU, float32."""
    classes_names: tuple[str, ...]
    """Name of each class; label 1 is the first."""
    recipe: DenseRecipe
    history: tuple[DenseRecord, ...]
    """A record for each finished epoch."""
    name: str = ""
    """What the architecture was called on the command line."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the images and the task."""
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


def save(checkpoint: DenseCheckpoint, path: Path) -> None:
    """Write the checkpoint to `path`, whole or not at all; raises HwnasError when it cannot be written."""
    tensors: Tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "kind": KIND,
        "task": checkpoint.task,
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
    put(sealed(tensors, document), path)


def load(path: Path | str) -> DenseCheckpoint:
    """The checkpoint in a file, or the best whole one of a training's folder.

    Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or of another kind.
    """
    found, skipped = first_whole(Path(path), (BEST, LAST, PREVIOUS), _read)
    return dataclasses.replace(found, skipped=skipped)


def resume_point(folder: Path) -> DenseCheckpoint:
    """The newest whole checkpoint of a training's folder that can be resumed. Raises as `load`."""
    found, skipped = first_whole(folder, (LAST, PREVIOUS), _read)
    return dataclasses.replace(found, skipped=skipped)


def trained_network(checkpoint: DenseCheckpoint) -> DenseNetwork:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    classes = len(checkpoint.classes_names)
    network = build_dense(checkpoint.arch, checkpoint.task, classes, checkpoint.recipe)
    try:
        network.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise FileFormatError(f"{checkpoint.path}: the weights are of another network: {error}") from None
    network.eval()
    return network


def _read(path: Path) -> DenseCheckpoint:
    document, tensors = read_sealed(path, kind=KIND, version=FORMAT)
    try:
        weights = below(tensors, "weights/")
        training = document["training"]
        return DenseCheckpoint(
            arch=ArchSpec.from_dict(document["arch"], source=f"{path}: arch"),
            task=document["task"],
            state_dict=weights,
            classes_names=tuple(document["classes_names"]),
            recipe=DenseRecipe.from_dict(document["recipe"], source=f"{path}: recipe"),
            history=tuple(DenseRecord(**record) for record in document["history"]),
            name=document["name"],
            data=document["data"],
            training=None if training is None else unpacked(training, tensors, weights),
            path=path,
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from None
