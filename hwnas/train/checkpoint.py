"""Checkpoint: all that a training needs to go on, and that others need to use its network.

One safetensors file, which any tool of that format opens: the tensors, and in its header the rest as
JSON. No pickle is written or read. The header also holds the SHA-256 of the whole file, taken with 64
zeros in its own place, so that a flipped bit anywhere is found: safetensors by itself loads one
silently.

A file is written beside its place, flushed to the disk and renamed, and `last` becomes `previous`
first: whenever the process dies, one whole checkpoint is there.

    OUT/last.safetensors       after the last finished epoch, with optimiser and moving average
    OUT/previous.safetensors   after the one before
    OUT/best.safetensors       the weights with the highest accuracy so far, nothing else
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.space import ArchSpec
from hwnas.train.recipe import Recipe

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

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"

MAX_HEADER_BYTES = 64 * 1024 * 1024
_NO_DIGEST = "0" * 64

Tensors = dict[str, "torch.Tensor"]


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
    content = _encoded(checkpoint)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            path.replace(path.with_name(PREVIOUS))
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise HwnasError(
            f"{path}: the checkpoint could not be written: {error.strerror}; "
            "the one before is intact: make room, then resume"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def load(path: Path | str) -> Checkpoint:
    """The checkpoint in a file, or the best one of a training's folder.

    In a folder a damaged file is passed over for the next: best, last, previous; `skipped` says so.
    Raises UsageError when there is none, FileFormatError when it is damaged, a pickle or foreign.
    """
    return _first_whole(Path(path), (BEST, LAST, PREVIOUS))


def resume_point(folder: Path) -> Checkpoint:
    """The newest whole checkpoint of a training's folder that can be resumed. Raises as `load`."""
    return _first_whole(folder, (LAST, PREVIOUS))


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


def _first_whole(path: Path, names: tuple[str, ...]) -> Checkpoint:
    if path.is_file():
        return _load_file(path)
    if not path.is_dir():
        raise UsageError(f"no such checkpoint: {path}: give a .safetensors file or a training's folder")
    skipped: list[str] = []
    for name in names:
        if (path / name).exists():
            try:
                return dataclasses.replace(_load_file(path / name), skipped=tuple(skipped))
            except FileFormatError as error:
                skipped.append(str(error))
    if skipped:
        raise FileFormatError("\n".join(skipped))
    raise UsageError(f"{path}: there is no checkpoint in this folder ({', '.join(names)})")


def _load_file(path: Path) -> Checkpoint:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    document = _verified_document(content, path)
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(content)
    try:
        return _decoded(document, tensors, path)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise FileFormatError(f"{path}: not a whole checkpoint: {type(error).__name__}: {error}") from None


# --- the file --------------------------------------------------------------------------------


def _encoded(checkpoint: Checkpoint) -> bytes:
    from safetensors.torch import save as save_tensors

    tensors: Tensors = {f"weights/{name}": tensor for name, tensor in checkpoint.state_dict.items()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "kind": "hwnas checkpoint",
        "name": checkpoint.name,
        "arch": checkpoint.arch.to_dict(),
        "classes_names": list(checkpoint.classes_names),
        "recipe": checkpoint.recipe.to_dict(),
        "data": dict(checkpoint.data),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "training": None,
    }
    if checkpoint.training is not None:
        state = checkpoint.training
        for part, weights in (("model", state.model), ("average", state.average)):
            tensors |= {
                f"{part}/{name}": tensor
                for name, tensor in weights.items()
                if not _is_same(tensor, checkpoint.state_dict.get(name))  # stored once
            }
        plain: dict[str, dict[str, Any]] = {}
        for index, slots in state.optimizer["state"].items():
            plain[str(index)] = {}
            for name, value in slots.items():
                if hasattr(value, "data_ptr"):
                    tensors[f"optimizer/{index}/{name}"] = value
                else:
                    plain[str(index)][name] = value
        document["training"] = {
            "updates": state.updates,
            "scaler": state.scaler,
            "averaged": bool(state.average),
            "optimizer": {"param_groups": state.optimizer["param_groups"], "state": plain},
        }
    metadata = {"hwnas": json.dumps(document), "sha256": _NO_DIGEST}
    content = bytearray(
        save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    )
    place = _digest_place(content)
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def _digest_place(content: bytes | bytearray) -> int:
    """Where the 64 digits of the digest stand, or -1."""
    key = b'"sha256":"'
    end = 8 + struct.unpack("<Q", content[:8])[0]
    place = content.find(key, 8, end)
    return place + len(key) if place >= 0 else -1


def _verified_document(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON part, once the checksum of the whole file is found right."""
    if content[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise FileFormatError(
            f"{path}: this is a pickle (torch.save), which can run any code when loaded, so it is not read: "
            "convert it to safetensors where you trust it"
        )
    header_bytes = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, len(content) - 8) or content[8:9] != b"{":
        raise FileFormatError(f"{path}: not a safetensors file, or cut off: {len(content)} bytes")
    place = _digest_place(content)
    if place < 0:
        raise FileFormatError(
            f"{path}: damaged, or not a checkpoint of hwnas: there is no checksum in its header"
        )
    zeroed = bytearray(content)
    zeroed[place : place + 64] = _NO_DIGEST.encode()
    if hashlib.sha256(zeroed).hexdigest().encode() != content[place : place + 64]:
        raise FileFormatError(f"{path}: the checksum does not match: the file is damaged or cut off")
    try:
        document = json.loads(json.loads(content[8 : 8 + header_bytes])["__metadata__"]["hwnas"])
        version = document["format"]
    except (ValueError, KeyError, TypeError):
        raise FileFormatError(f"{path}: not a checkpoint of hwnas") from None
    if version != FORMAT:
        raise FileFormatError(
            f"{path}: this hwnas reads checkpoint format {FORMAT}, got {version}: upgrade hwnas"
        )
    return dict(document)


def _decoded(document: dict[str, Any], tensors: Tensors, path: Path) -> Checkpoint:
    weights = _below(tensors, "weights/")
    training = None
    if document["training"] is not None:
        state = document["training"]
        slots: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in state["optimizer"]["state"].items()
        }
        for name, tensor in _below(tensors, "optimizer/").items():
            index, _, slot = name.partition("/")
            slots[int(index)][slot] = tensor
        training = TrainingState(
            model=weights | _below(tensors, "model/"),
            optimizer={"state": slots, "param_groups": state["optimizer"]["param_groups"]},
            updates=state["updates"],
            scaler=state["scaler"],
            average=weights | _below(tensors, "average/") if state.get("averaged", True) else {},
        )
    return Checkpoint(
        arch=ArchSpec.from_dict(document["arch"], source=f"{path}: arch"),
        state_dict=weights,
        classes_names=tuple(document["classes_names"]),
        recipe=Recipe.from_dict(document["recipe"], source=f"{path}: recipe"),
        history=tuple(EpochRecord(**record) for record in document["history"]),
        name=document["name"],
        data=document["data"],
        training=training,
        path=path,
    )


def _is_same(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and tensor.data_ptr() == other.data_ptr()


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _flush_folder(folder: Path) -> None:
    """Make the renames themselves durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
