"""Checkpoint of a supernet: its weights, what they are shared by, and all that training needs to go on.

OUT/last.safetensors       after the last finished epoch
OUT/previous.safetensors   after the one before
OUT/images.safetensors     what networks are judged with, see `hwnas.supernet.images`
OUT/history.jsonl          a line an epoch
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, UsageError
from hwnas.io.tensors import Tensors, below, read_sealed, sealed
from hwnas.space import SearchSpace
from hwnas.supernet.settings import Settings
from hwnas.train.checkpoint import LAST, PREVIOUS, TrainingState, first_whole, packed, put, unpacked

__all__ = ["WEIGHTS", "Checkpoint", "EpochRecord", "load", "resume_point", "save"]

WEIGHTS = "weights.safetensors"
KIND, FORMAT = "hwnas supernet", 1  # 1: the first one


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch did."""

    epoch: int
    """1 for the first."""
    loss: float
    """Mean training loss of the largest networks."""
    largest_percent: dict[str, float]
    """Accuracy of the largest network of each attention type on the held-back images, with the shared
    weights."""
    smallest_percent: dict[str, float]
    """The same of the smallest."""
    lr: float
    """Learning rate of the last update."""
    seconds: float
    """Wall clock, evaluation included."""

    @property
    def outcome(self) -> str:
        """How good the weights are now, in words."""

        def span(percent: Mapping[str, float]) -> str:
            low, high = min(percent.values()), max(percent.values())
            return f"{low:.1f}" if low == high else f"{low:.1f} to {high:.1f}"

        return f"top-1 {span(self.largest_percent)} % (largest), {span(self.smallest_percent)} % (smallest)"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A supernet and how it came about."""

    space: SearchSpace
    """As trained: with the images' classes, and their sizes."""
    settings: Settings
    classes_names: tuple[str, ...]
    """Name of each logit."""
    tensors: Tensors
    """The shared weights by slot, on the CPU, float32."""
    history: tuple[EpochRecord, ...]
    """A record for each finished epoch."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the images."""
    training: TrainingState | None = None
    path: Path | None = None
    """The file it was loaded from."""
    skipped: tuple[str, ...] = ()
    """Why a newer file was passed over, a sentence each."""


def save(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `weights.safetensors` and `last.safetensors`, each atomically; what was last becomes `previous`.

    Raises HwnasError when the disk is full or the folder cannot be written; what was there stays.
    """
    # The weights first: a kill in between repeats the epoch, and with it them.
    put(_content(dataclasses.replace(checkpoint, training=None)), folder / WEIGHTS)
    put(_content(checkpoint), folder / LAST)


def load(path: Path | str) -> Checkpoint:
    """The supernet in a file, or the newest whole one of a folder; without what training needs, if it can be.

    Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or foreign.
    """
    return _first_whole(Path(path), WEIGHTS, LAST, PREVIOUS)


def resume_point(folder: Path) -> Checkpoint:
    """The newest whole checkpoint of a folder that can be resumed. Raises as `load`."""
    return _first_whole(folder, LAST, PREVIOUS)


def _first_whole(path: Path, *names: str) -> Checkpoint:
    saved, skipped = first_whole(path, names, _read)
    return dataclasses.replace(saved, skipped=skipped)


def _content(checkpoint: Checkpoint) -> bytes:
    tensors: Tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.tensors.items()}
    document: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "space": checkpoint.space.to_dict(),
        "settings": checkpoint.settings.to_dict(),
        "classes_names": list(checkpoint.classes_names),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "data": dict(checkpoint.data),
        "training": None,
    }
    if checkpoint.training is not None:
        more, document["training"] = packed(checkpoint.training, checkpoint.tensors)
        tensors |= more
    return sealed(tensors, document)


def _read(path: Path) -> Checkpoint:
    document, tensors = read_sealed(path, kind=KIND, version=FORMAT)
    weights = below(tensors, "weights/")
    try:
        training = document["training"]
        return Checkpoint(
            space=SearchSpace.from_dict(document["space"], source=f"{path}: space"),
            settings=Settings.from_dict(document["settings"], source=f"{path}: settings"),
            classes_names=tuple(document["classes_names"]),
            tensors=weights,
            history=tuple(EpochRecord(**record) for record in document["history"]),
            data=document["data"],
            training=None if training is None else unpacked(training, tensors, weights),
            path=path,
        )
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path}: not a whole supernet: {type(error).__name__}: {error}") from None
