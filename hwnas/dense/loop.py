"""Training a detector or a segmentation network on COCO-format data, resumable after any interruption.

As `hwnas.train.training`, whose folder, checkpoints, optimiser and randomness it shares: what is kept is the
last finished epoch, and a resumed training ends, on a CPU with as many threads, with the very bits of an
uninterrupted one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.data.loader import worker_count
from hwnas.data.randomness import deterministic
from hwnas.dense import checkpoint as checkpoints
from hwnas.dense.annotations import Photo
from hwnas.dense.checkpoint import DenseCheckpoint, DenseRecord
from hwnas.dense.coco import CocoData, open_coco, some_of
from hwnas.dense.data import MAX_CLASSES, DenseBatches
from hwnas.dense.evaluation import DenseEvaluation, evaluate
from hwnas.dense.networks import TASKS
from hwnas.dense.recipe import DenseRecipe
from hwnas.dense.result import result_document
from hwnas.dense.scores import LEADING
from hwnas.dense.start import initialise_dense
from hwnas.dense.trainer import DenseTrainer
from hwnas.errors import UsageError
from hwnas.io.atomic import write_whole
from hwnas.space import ArchSpec
from hwnas.space.changes import renamed
from hwnas.targets import Promise
from hwnas.train.callbacks import Observer, Silent, listed
from hwnas.train.distributed import joined
from hwnas.train.folder import prepared_folder
from hwnas.train.init_weights import Start
from hwnas.train.trainer import all_epochs

__all__ = ["DenseResult", "evaluate_checkpoint", "train"]


@dataclass(frozen=True, slots=True)
class DenseResult:
    """A finished training."""

    out: Path
    arch: ArchSpec
    """As trained."""
    task: str
    history: tuple[DenseRecord, ...]
    document: Mapping[str, Any]
    """What result.json holds."""

    @property
    def best(self) -> DenseRecord:
        """The first epoch with the highest leading score."""
        return max(self.history, key=lambda record: record.scores[LEADING[self.task]])


def train(
    arch: ArchSpec,
    task: str,
    data: Path,
    recipe: DenseRecipe,
    out: Path,
    *,
    name: str = "",
    promise: Promise | None = None,
    resume: bool = False,
    init: Path | str | Callable[[ArchSpec], Start] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    observer: Observer | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> DenseResult:
    """Train `arch` as the backbone of a `task` (detect, instance, segment) into the folder `out`.

    `data` is as `hwnas.dense.coco` expects it, `init` as `hwnas.dense.start` reads it; `limit` keeps
    that many training images, drawn by the recipe's seed. With `resume`, goes on after the last finished
    epoch of `out`, or starts when there is none. Where torchrun started several processes, each calls
    this alike.

    Raises UsageError for data, folders and options that don't fit, FileFormatError for annotations that
    are broken, TrainingFailed when the loss is not finite. KeyboardInterrupt passes through at any time:
    the last finished epoch is on the disk.
    """
    plugins.require("pycocotools", extra="dense")
    with joined(device, recipe.batch_size) as group:
        observer = observer if observer is not None and group.is_first else Silent()
        photos = _opened(data, task)
        if photos.left_out:
            observer.note(listed("annotations left out", list(photos.left_out)))
        if limit is not None:
            photos = some_of(photos, limit, recipe.seed)
        start = _question(arch, task, photos, recipe, name, limit, promise)
        if len(photos.train) < 2 * group.size:
            raise UsageError(f"each process needs 2 images to train on, got {len(photos.train)} in all")
        before = prepared_folder(out, start, resume, observer, checkpoints.resume_point, group)
        if before is not None and promise is None:
            start = dataclasses.replace(start, promise=before.promise)
        workers = worker_count(recipe.workers, group.size)
        share = (group.rank, group.size)
        training = DenseBatches(photos.train, task, recipe, training=True, workers=workers, share=share)
        evaluation = DenseBatches(photos.evaluation, task, recipe, training=False, workers=workers)
        trainer = DenseTrainer(
            start,
            len(training),
            device,
            clock,
            observer,
            group,
            None
            if init is None or before is not None
            else partial(initialise_dense, asked=init, arch=start.arch, observer=observer),
        )
        if before is not None:
            trainer.restore(before)
        history = () if before is None else before.history
        with deterministic(device):
            history = all_epochs(trainer, start, history, training, evaluation, out, checkpoints.save)
        document = result_document(dataclasses.replace(start, history=history), device=device)
        if group.is_first:
            write_whole(out / "result.json", json.dumps(document, indent=2) + "\n")
        return DenseResult(out, start.arch, task, history, document)


def evaluate_checkpoint(checkpoint: DenseCheckpoint, data: Path, *, device: str = "cpu") -> DenseEvaluation:
    """The scores of a trained network on the evaluation images of `data`.

    Raises UsageError when the data has other classes than the network.
    """
    plugins.require("pycocotools", extra="dense")
    photos = _opened(data, checkpoint.task)
    if photos.classes != checkpoint.classes_names:
        raise UsageError(
            f"{data}: the categories must be those that the network knows, "
            f"{_some(checkpoint.classes_names)}, got {_some(photos.classes)}"
        )
    recipe = checkpoint.recipe
    batches = DenseBatches(
        photos.evaluation, checkpoint.task, recipe, training=False, workers=worker_count(recipe.workers)
    )
    network = checkpoints.trained_network(checkpoint).to(device)
    return evaluate(network, batches, checkpoint.task, len(photos.classes), device=device)


def _opened(data: Path, task: str) -> CocoData:
    if task not in TASKS:
        raise UsageError(f"--task must be one of {', '.join(TASKS)}, got '{task}'")
    photos = open_coco(data, outlines=task != "detect")
    if task == "segment" and len(photos.classes) > MAX_CLASSES:
        raise UsageError(f"segmentation takes at most {MAX_CLASSES} classes, got {len(photos.classes)}")
    return photos


def _question(
    arch: ArchSpec,
    task: str,
    photos: CocoData,
    recipe: DenseRecipe,
    name: str,
    limit: int | None,
    promise: Promise | None,
) -> DenseCheckpoint:
    """What is asked for, as a checkpoint without weights."""
    adapted = recipe.adapted(arch)
    return DenseCheckpoint(
        arch=adapted,
        task=task,
        state_dict={},
        classes_names=photos.classes,
        recipe=recipe,
        history=(),
        name=renamed(name, arch, adapted),
        promise=promise,
        data={
            "name": photos.path.name,
            "task": task,
            "train_images": len(photos.train),
            "evaluation_images": len(photos.evaluation),
            "digest": _digest(photos),
            "limit": limit,
        },
    )


def _digest(photos: CocoData) -> str:
    """Tells one data set from another: names, sizes, boxes and classes of all that is used."""
    digest = hashlib.sha256()

    def add(photo: Photo) -> None:
        things = [(thing.category, thing.crowd, thing.box) for thing in photo.things]
        digest.update(f"{photo.path.name} {photo.width} {photo.height} {things}\n".encode())

    for photo in (*photos.train, *photos.evaluation):
        add(photo)
    return digest.hexdigest()[:16]


def _some(names: tuple[str, ...], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more
