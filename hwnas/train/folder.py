"""A training's folder: made, found again, refused when it holds another training.

arch.yaml                  the network, adapted to the images
recipe.yaml                how it is trained
last, previous, best       see `hwnas.train.checkpoint`
history.jsonl              a line an epoch
result.json                at the end: accuracy, recipe, time, environment
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import timm
import torch

from hwnas import __version__
from hwnas.data.images import Image, Images
from hwnas.errors import UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole
from hwnas.io.files import read_bytes
from hwnas.space import ArchSpec, lower
from hwnas.train.callbacks import Observer
from hwnas.train.checkpoint import BEST, LAST, PREVIOUS, Checkpoint
from hwnas.train.distributed import Group

__all__ = [
    "FREE_TO_CHANGE",
    "Resumable",
    "described_data",
    "newest",
    "prepared_folder",
    "read_history",
    "refuse_another",
    "result_document",
    "write_history",
]

FREE_TO_CHANGE = ("workers",)
"""Fields of a recipe that may differ when a training is resumed: they don't change the outcome."""


class PlainRecipe(Protocol):
    """A recipe, as far as it is kept and compared here."""

    @property
    def epochs(self) -> int: ...
    def to_dict(self) -> dict[str, Any]: ...
    def to_yaml(self) -> str: ...


class FromFile(Protocol):
    """A checkpoint, as far as it says where it is from."""

    @property
    def path(self) -> Path | None: ...
    @property
    def skipped(self) -> tuple[str, ...]: ...


class Resumable(FromFile, Protocol):
    """A checkpoint, as far as it is compared with what is asked for."""

    @property
    def arch(self) -> ArchSpec: ...
    @property
    def recipe(self) -> PlainRecipe: ...
    @property
    def classes_names(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> Mapping[str, Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def epoch(self) -> int: ...


Kept = TypeVar("Kept", bound=FromFile)
Saved = TypeVar("Saved", bound=Resumable)


def described_data(
    images: Images, selected: tuple[Image, ...], evaluated: tuple[Image, ...]
) -> dict[str, Any]:
    """What tells one data set from another when a training is resumed."""
    digest = hashlib.sha256()
    for image in (*selected, *evaluated):
        digest.update(f"{image.name} {image.size_bytes}\n".encode())
    return {
        "name": images.path.name,
        "train_images": len(selected),
        "evaluation_images": len(evaluated),
        "digest": digest.hexdigest()[:16],
    }


def prepared_folder(
    out: Path,
    start: Saved,
    resume: bool,
    observer: Observer,
    resume_point: Callable[[Path], Saved],
    group: Group,
) -> Saved | None:
    """Make the folder, or find in it what is to be resumed; refuse what doesn't fit.

    `resume_point` reads the newest whole checkpoint of a folder. Of the processes of a group, the first
    one makes the folder before the others look at it.

    Raises UsageError when the folder cannot be written, holds a training that is not resumed, or
    another one than asked for; FileFormatError when no checkpoint in it is whole.
    """
    before = None
    for turn in (True, False):
        if group.is_first is turn:
            before = _prepared(out, start, resume or not turn, observer, resume_point)
        group.wait()
    return before


def newest(out: Path, resume_point: Callable[[Path], Kept], observer: Observer) -> Kept:
    """The newest whole checkpoint of a folder; what is damaged is told, and never taken for whole."""
    saved = resume_point(out)
    for reason in saved.skipped:
        observer.note(f"{reason}; going on from the checkpoint before it")
    if saved.path == out / PREVIOUS and (out / LAST).exists():
        (out / LAST).replace(out / f"{LAST}.damaged")  # must not become `previous`
    return saved


def refuse_another(out: Path, what: str, differences: Iterable[str]) -> None:
    """Raises UsageError with the differences between what a folder holds and what is asked for, if any."""
    if lines := list(differences):
        raise UsageError(f"{out} holds another {what}; to resume, ask for the same one:\n" + "\n".join(lines))


def write_history(out: Path, history: Sequence[Any]) -> None:
    """history.jsonl, a line an epoch; `history` holds dataclasses."""
    lines = [json.dumps(dataclasses.asdict(record)) for record in history]
    write_whole(out / "history.jsonl", "\n".join(lines) + "\n")


def read_history(out: Path) -> list[dict[str, Any]]:
    """What `write_history` wrote, a mapping for each epoch; empty before the first one is done."""
    file = out / "history.jsonl"
    if not file.exists():
        return []
    lines = read_bytes(file, max_bytes=json_io.MAX_BYTES).splitlines()
    return [json_io.parse(line, source=f"{file}: line {number}") for number, line in enumerate(lines, 1)]


def _prepared(
    out: Path, start: Saved, resume: bool, observer: Observer, resume_point: Callable[[Path], Saved]
) -> Saved | None:
    files = (LAST, PREVIOUS)
    held = [file for file in (*files, BEST) if (out / file).exists()]
    if held and not resume:
        raise UsageError(f"{out} already holds a training: add --resume to go on, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for partial in out.glob("*.partial"):
            partial.unlink()
        if not held:
            write_whole(out / "arch.yaml", start.arch.to_yaml())
            write_whole(out / "recipe.yaml", start.recipe.to_yaml())
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}: choose another folder") from None
    if not any(file in held for file in files):
        return None
    saved = newest(out, resume_point, observer)
    refuse_another(out, "training", _differences(saved, start))
    observer.note(f"resuming after epoch {saved.epoch} of {start.recipe.epochs}")
    return saved


def _differences(saved: Resumable, asked: Resumable) -> Iterator[str]:
    if saved.arch.id != asked.arch.id:
        there, wanted = (f"{side.arch.id} ({side.name})" for side in (saved, asked))
        yield f"  architecture: {there} there, {wanted} asked for"
    if saved.classes_names != asked.classes_names:
        yield f"  classes: {', '.join(saved.classes_names)} there, {', '.join(asked.classes_names)} asked for"
    for name, value in asked.data.items():
        if name != "name" and saved.data.get(name) != value:
            yield f"  data {name}: {saved.data.get(name)} there, {value} asked for"
    recipe = saved.recipe.to_dict()
    for name, value in asked.recipe.to_dict().items():
        if name not in FREE_TO_CHANGE and recipe[name] != value:
            yield f"  {name}: {recipe[name]} there, {value} asked for"


# --- result.json ------------------------------------------------------------------------------

SCHEMA = 1  # 1: the first one


def result_document(checkpoint: Checkpoint, *, device: str, evaluation_split: str) -> dict[str, Any]:
    """Plain data: the network, its accuracy by epoch, the recipe, the time and the environment.

    `top1_percent` is that of the last epoch; the best one is chosen on the very images it is measured
    on, so it flatters.
    """
    ops = lower(checkpoint.arch)
    last = checkpoint.history[-1]
    best = max(checkpoint.history, key=lambda record: record.top1_percent)
    return {
        "schema": SCHEMA,
        "kind": "training",
        "name": checkpoint.name,
        "id": checkpoint.arch.id,
        "params": sum(op.params for op in ops),
        "macs": sum(op.macs for op in ops),
        "seed": checkpoint.recipe.seed,
        "top1_percent": last.top1_percent,
        "top5_percent": last.top5_percent,
        "best_top1_percent": best.top1_percent,
        "best_epoch": best.epoch,
        "epochs": checkpoint.epoch,
        "train_seconds": sum(record.seconds for record in checkpoint.history),
        "data": {**checkpoint.data, "evaluation_split": evaluation_split},
        "classes_names": list(checkpoint.classes_names),
        "history": [dataclasses.asdict(record) for record in checkpoint.history],
        "recipe": checkpoint.recipe.to_dict(),
        "environment": {
            "hwnas": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "threads": torch.get_num_threads(),
        },
        "arch": checkpoint.arch.to_dict(),
    }
