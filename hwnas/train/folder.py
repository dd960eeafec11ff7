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
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch

from hwnas import __version__
from hwnas.data.images import Image, Images, printable
from hwnas.errors import UsageError
from hwnas.foreign import require_main
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_whole
from hwnas.space import lower
from hwnas.train.callbacks import Callback
from hwnas.train.checkpoint import LAST, PREVIOUS, AnySaved, Checkpoint, Kind, Saved
from hwnas.train.distributed import Group

__all__ = [
    "FREE_TO_CHANGE",
    "described_data",
    "prepared_folder",
    "result_document",
]

FREE_TO_CHANGE = ("workers",)
"""Fields of a recipe that may differ when a training is resumed: they don't change the outcome."""


def described_data(
    images: Images, selected: tuple[Image, ...], evaluated: tuple[Image, ...]
) -> dict[str, Any]:
    """What tells one data set from another when a training is resumed."""
    digest = hashlib.sha256()
    for image in (*selected, *evaluated):
        digest.update(f"{image.name} {image.size_bytes}\n".encode())
    return {
        "name": printable(images.path.name),
        "train_images": len(selected),
        "evaluation_images": len(evaluated),
        "digest": digest.hexdigest()[:16],
    }


def prepared_folder(
    out: Path, start: AnySaved, kind: Kind[AnySaved], *, resume: bool, callback: Callback, group: Group
) -> AnySaved | None:
    """Make the folder, or find in it the checkpoint to resume from; None when there is none.

    `start` is the requested training, without weights. In a group of processes, the first one makes the
    folder before the others look at it.

    Raises UsageError when the folder cannot be written, holds a training but `resume` is False, or holds
    another training than requested; FileFormatError when no checkpoint in it is intact.
    """
    require_main("a training")
    before = None
    for turn in (True, False):
        if group.is_first is turn:
            before = _prepared(out, start, kind, resume or not turn, callback)
        group.wait()
    return before


def _prepared(
    out: Path, start: AnySaved, kind: Kind[AnySaved], resume: bool, callback: Callback
) -> AnySaved | None:
    resumable = (LAST, PREVIOUS)
    present = [file for file in (*resumable, kind.weights_file) if (out / file).exists()]
    if present and not resume:
        raise UsageError(
            f"{out} already holds a training: add --resume to continue, or choose another folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        for partial in out.glob("*.partial"):
            partial.unlink()
        if not present:
            write_whole(out / f"{kind.design}.yaml", yaml_io.dump(getattr(start, kind.design).to_dict()))
            write_whole(out / f"{kind.recipe_key}.yaml", yaml_io.dump(start.recipe.to_dict()))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}: choose another folder") from None
    if not any(file in present for file in resumable):
        return None
    saved = kind.resume_point(out)
    for reason in saved.skipped:
        callback.note(f"{reason}; continuing from the checkpoint before it")
    if saved.path == out / PREVIOUS and (out / LAST).exists():
        (out / LAST).replace(out / f"{LAST}.damaged")  # must not become `previous`
    if differences := list(_differences(saved, start)):
        raise UsageError(
            f"{out} holds another {kind.subject}; to resume, request the same one:\n" + "\n".join(differences)
        )
    callback.note(f"resuming after epoch {saved.epoch} of {start.recipe.epochs}")
    return saved


def _differences(saved: Saved[Any, Any], requested: Saved[Any, Any]) -> Iterator[str]:
    if design := saved.other_design(requested):
        yield f"  {design}"
    if saved.classes_names != requested.classes_names:
        names = [", ".join(side.classes_names) for side in (saved, requested)]
        yield f"  classes: {names[0]} there, {names[1]} requested"
    for name, value in requested.data.items():
        if name != "name" and saved.data.get(name) != value:
            yield f"  data {name}: {saved.data.get(name)} there, {value} requested"
    recipe = saved.recipe.to_dict()
    for name, value in requested.recipe.to_dict().items():
        if name not in FREE_TO_CHANGE and recipe[name] != value:
            yield f"  {name}: {recipe[name]} there, {value} requested"


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
        "promise": None if checkpoint.promise is None else checkpoint.promise.to_dict(),
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
