"""Checkpoint: the state of a training, its files, and how they are read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io.atomic import write_whole
from hwnas.io.tensors import Tensors, below, read_sealed, sealed
from hwnas.space import ArchSpec
from hwnas.targets import Promise
from hwnas.train.recipe import Recipe, TrainingRecipe

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance
    from torch import nn

__all__ = [
    "BEST",
    "KIND",
    "LAST",
    "PREVIOUS",
    "AnySaved",
    "Checkpoint",
    "EpochRecord",
    "Kind",
    "Saved",
    "SavedNetwork",
    "TrainingState",
    "first_whole",
    "load",
    "packed",
    "put",
    "resume_point",
    "save",
    "trained_network",
    "unpacked",
]


# --- a training and its checkpoint, for any network ------------------------------------------
# The layout inside a file is in `hwnas.io.tensors`.

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"

FORMAT = 1  # 1: the first one

SomeRecipe = TypeVar("SomeRecipe", bound=TrainingRecipe)
Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Saved(Generic[SomeRecipe, Record]):
    """Trained weights and how they came about. What they are the weights of is a field of the subclass."""

    state_dict: Tensors
    """The weights to use: the moving average where one is kept. In files float32."""
    classes_names: tuple[str, ...]
    """Name of each class, in the order of the network's outputs."""
    recipe: SomeRecipe
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
    promise: Promise | None = None
    """The latency budgets that the network was searched for; None for one that is of no run."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)

    def other_design(self, requested: Self) -> str:
        """How the design (architecture or space) differs from that of a requested training; '' if equal."""
        raise NotImplementedError

    def into(self, network: nn.Module) -> None:
        """Loads the weights into a network, and puts it into eval mode.

        Raises FileFormatError when weights and network don't belong together.
        """
        try:
            network.load_state_dict(self.state_dict)
        except RuntimeError as error:
            raise FileFormatError(f"{self.path}: the weights are of another network: {error}") from None
        network.eval()


@dataclass(frozen=True, slots=True)
class SavedNetwork(Saved[SomeRecipe, Record]):
    """The weights of one network."""

    arch: ArchSpec = field(kw_only=True)
    """As trained: adapted to the images' size and classes."""

    def other_design(self, requested: Self) -> str:
        """'' for the same architecture, whatever it is called."""
        if self.arch.id == requested.arch.id:
            return ""
        there, wanted = (f"{side.arch.id} ({side.name})" for side in (self, requested))
        return f"architecture: {there} there, {wanted} requested"


AnySaved = TypeVar("AnySaved", bound="Saved[Any, Any]")


@dataclass(frozen=True, slots=True)
class Kind(Generic[AnySaved]):
    """One kind of checkpoint: its name in the file, and its Python types."""

    name: str
    saved: type[AnySaved]
    recipe: type[TrainingRecipe]
    record: type[Any]
    more: tuple[str, ...] = ()
    """Fields of plain data beyond those of `Saved`."""
    design: str = "arch"
    """Field, and key in the file, of what the weights are the weights of."""
    read_design: Callable[..., Any] = ArchSpec.from_dict
    """(plain data, source=) -> the design; raises UsageError."""
    recipe_key: str = "recipe"
    """Key of the recipe in the file."""
    weights_file: str = BEST
    """The file with the weights to use and no training state."""
    subject: str = "training"
    """What messages call a folder's content."""

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
            self.design: getattr(checkpoint, self.design).to_dict(),
            "classes_names": list(checkpoint.classes_names),
            self.recipe_key: checkpoint.recipe.to_dict(),
            "data": dict(checkpoint.data),
            "history": [dataclasses.asdict(record) for record in checkpoint.history],
            "training": None,
            "promise": None if checkpoint.promise is None else checkpoint.promise.to_dict(),
        }
        if checkpoint.training is not None:
            state, document["training"] = packed(checkpoint.training, checkpoint.state_dict)
            tensors |= state
        put(sealed(tensors, document), path)

    def load(self, path: Path | str) -> AnySaved:
        """The checkpoint in a file, or the best one of a training's folder.

        In a folder a damaged file is skipped for the next: weights_file, last, previous; `skipped` says so.
        Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or foreign.
        """
        return self._first_whole(Path(path), (self.weights_file, LAST, PREVIOUS))

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
                state_dict=weights,
                classes_names=tuple(document["classes_names"]),
                recipe=self.recipe.from_dict(document[self.recipe_key], source=f"{path}: {self.recipe_key}"),
                history=tuple(self.record(**record) for record in document["history"]),
                name=document.get("name", ""),  # old supernets have none
                data=document["data"],
                training=None if training is None else unpacked(training, tensors, weights),
                path=path,
                promise=Promise.from_dict(document.get("promise")),  # earlier files have none
                **{self.design: self.read_design(document[self.design], source=f"{path}: {self.design}")},
                **{name: document[name] for name in self.more},
            )
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise FileFormatError(
                f"{path}: not a whole checkpoint: {type(error).__name__}: {error}"
            ) from None


# --- classifier checkpoint --------------------------------------------------------------------


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
class Checkpoint(SavedNetwork[Recipe, EpochRecord]):
    """A trained classifier and how it came about."""


KIND = Kind("hwnas checkpoint", Checkpoint, Recipe, EpochRecord)

save, load, resume_point = KIND.save, KIND.load, KIND.resume_point


def trained_network(checkpoint: Checkpoint) -> torch.nn.Module:
    """The network with its trained weights, in eval mode, on the CPU.

    Raises FileFormatError when weights and architecture don't belong together.
    """
    from hwnas.nn import build

    network = build(checkpoint.arch)
    checkpoint.into(network)
    return network


# --- optimiser, schedule and moving average --------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What only a resumed training needs."""

    model: Tensors
    """The weights that are trained (not their moving average)."""
    optimizer: dict[str, Any]
    """The optimiser's own state dict."""
    updates: int
    """Updates so far; the schedule follows from it."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """Loss scaling of float16; empty elsewhere."""
    average: Tensors = field(default_factory=dict)
    """The moving average as it is trained, with both heads of a distilled network; empty without one."""


def packed(state: TrainingState, weights: Mapping[str, torch.Tensor]) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and plain data of the state; what is the same as in `weights` is left out."""
    tensors: Tensors = {}
    for part, own in (("model", state.model), ("average", state.average)):
        tensors |= {
            f"{part}/{name}": tensor
            for name, tensor in own.items()
            if not _is_same(tensor, weights.get(name))  # stored once
        }
    plain: dict[str, dict[str, Any]] = {}
    for index, slots in state.optimizer["state"].items():
        plain[str(index)] = {}
        for name, value in slots.items():
            if hasattr(value, "data_ptr"):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                plain[str(index)][name] = value
    return tensors, {
        "updates": state.updates,
        "scaler": state.scaler,
        "averaged": bool(state.average),
        "optimizer": {"param_groups": state.optimizer["param_groups"], "state": plain},
    }


def unpacked(plain: Mapping[str, Any], tensors: Tensors, weights: Tensors) -> TrainingState:
    """The state that `packed` took apart; raises KeyError, TypeError or ValueError for anything else."""
    slots: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in plain["optimizer"]["state"].items()
    }
    for name, tensor in below(tensors, "optimizer/").items():
        index, _, slot = name.partition("/")
        slots[int(index)][slot] = tensor
    return TrainingState(
        model=weights | below(tensors, "model/"),
        optimizer={"state": slots, "param_groups": plain["optimizer"]["param_groups"]},
        updates=plain["updates"],
        scaler=plain["scaler"],
        average=weights | below(tensors, "average/") if plain.get("averaged", True) else {},
    )


def _is_same(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and tensor.data_ptr() == other.data_ptr()


# --- checkpoint files of a training folder ---------------------------------------------------


# A file is written beside its place, flushed to the disk and renamed, and `last` becomes `previous` first.
#
#     OUT/last.safetensors       after the last finished epoch, with optimiser and moving average
#     OUT/previous.safetensors   after the one before
#     OUT/best.safetensors       the best weights so far, nothing else

Found = TypeVar("Found")


def put(content: bytes, path: Path) -> None:
    """Write a checkpoint's bytes to `path`, atomically: it is either there whole or not at all.

    Raises HwnasError when the disk is full or the folder cannot be written; what was there stays.
    """
    try:
        write_whole(path, content, previous=path.with_name(PREVIOUS) if path.name == LAST else None)
    except OSError as error:
        raise HwnasError(
            f"{path}: the checkpoint could not be written: {error.strerror}; "
            "the one before is intact: make room, then resume"
        ) from None


def first_whole(
    path: Path, names: Sequence[str], read: Callable[[Path], Found]
) -> tuple[Found, tuple[str, ...]]:
    """What `read` makes of a file, or of the first whole one of `names` in a folder; and why earlier
    ones were passed over, a sentence each.

    Raises UsageError when there is none, and as `read` does when none is whole.
    """
    if path.is_file():
        return read(path), ()
    if not path.is_dir():
        raise UsageError(f"no such checkpoint: {path}: give a .safetensors file or a training's folder")
    skipped: list[str] = []
    for name in names:
        if (path / name).exists():
            try:
                return read(path / name), tuple(skipped)
            except FileFormatError as error:
                skipped.append(str(error))
    if skipped:
        raise FileFormatError("\n".join(skipped))
    raise UsageError(f"{path}: there is no checkpoint in this folder ({', '.join(names)})")
