"""Saved: a training so far, of a classifier or any other network - all that it needs to go on, and others
to use its network.

How it lies in a file is in `hwnas.train.sealed`, which files a folder has in
`hwnas.train.checkpoint_folder`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hwnas.errors import FileFormatError, UsageError
from hwnas.space import ArchSpec
from hwnas.train.checkpoint_folder import BEST, LAST, PREVIOUS, first_whole, put
from hwnas.train.flat_recipe import FlatRecipe
from hwnas.train.sealed import Tensors, below, read_sealed, sealed
from hwnas.train.training_state import TrainingState, packed, unpacked

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import nn

__all__ = ["Kind", "Saved"]

FORMAT = 1  # 1: the first one

Recipe = TypeVar("Recipe", bound=FlatRecipe)
Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Saved(Generic[Recipe, Record]):
    """A trained network and how it came about."""

    arch: ArchSpec
    """As trained: adapted to the images' size and classes."""
    state_dict: Tensors
    """The weights to use: the moving average where one is kept. On the CPU, float32."""
    classes_names: tuple[str, ...]
    """Name of each class, in the order of the network's outputs."""
    recipe: Recipe
    history: tuple[Record, ...]
    """A record for each finished epoch."""
    name: str = ""
    """What the architecture was called on the command line, such as uniform-t."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What identifies the images: see `hwnas.train.folder`."""
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

    def into(self, network: nn.Module) -> None:
        """Loads the weights into a network, and puts it into eval mode.

        Raises FileFormatError when weights and network don't belong together.
        """
        try:
            network.load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise FileFormatError(f"{self.path}: the weights are of another network: {error}") from None
        network.eval()


AnySaved = TypeVar("AnySaved", bound="Saved[Any, Any]")


@dataclass(frozen=True, slots=True)
class Kind(Generic[AnySaved]):
    """One kind of checkpoint: its name in the file, and its Python types."""

    name: str
    saved: type[AnySaved]
    recipe: type[FlatRecipe]
    record: type[Any]
    more: tuple[str, ...] = ()
    """Fields beyond those of `Saved`, of plain data."""

    def save(self, checkpoint: AnySaved, path: Path) -> None:
        """Write the checkpoint to `path`, atomically: it is either there whole or not at all.

        Raises HwnasError when the disk is full or the folder cannot be written; what was there stays.
        """
        tensors: Tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.state_dict.items()}
        document: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.name,
            **{name: getattr(checkpoint, name) for name in self.more},
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

    def load(self, path: Path | str) -> AnySaved:
        """The checkpoint in a file, or the best one of a training's folder.

        In a folder a damaged file is passed over for the next: best, last, previous; `skipped` says so.
        Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or foreign.
        """
        return self._first_whole(Path(path), (BEST, LAST, PREVIOUS))

    def resume_point(self, folder: Path) -> AnySaved:
        """The newest whole checkpoint of a training's folder that can be resumed. Raises as `load`."""
        return self._first_whole(folder, (LAST, PREVIOUS))

    def _first_whole(self, path: Path, names: tuple[str, ...]) -> AnySaved:
        found, skipped = first_whole(path, names, self._read)
        return dataclasses.replace(found, skipped=skipped)

    def _read(self, path: Path) -> AnySaved:
        document, tensors = read_sealed(path, kind=self.name, version=FORMAT)
        try:
            weights = below(tensors, "weights/")
            training = document["training"]
            return self.saved(
                arch=ArchSpec.from_dict(document["arch"], source=f"{path}: arch"),
                state_dict=weights,
                classes_names=tuple(document["classes_names"]),
                recipe=self.recipe.from_dict(document["recipe"], source=f"{path}: recipe"),
                history=tuple(self.record(**record) for record in document["history"]),
                name=document["name"],
                data=document["data"],
                training=None if training is None else unpacked(training, tensors, weights),
                path=path,
                **{name: document[name] for name in self.more},
            )
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise FileFormatError(
                f"{path}: not a whole checkpoint: {type(error).__name__}: {error}"
            ) from None
