"""Training a detector or a segmentation network: losses, initial weights, from a data folder to a result.

Folder, checkpoints, optimiser, randomness and several processes are those of `hwnas.train`.
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

import torch
from torch import Tensor

from hwnas import plugins
from hwnas.data.loader import worker_count
from hwnas.data.randomness import deterministic, isolated
from hwnas.dense.checkpoint import KIND, DenseCheckpoint, DenseRecord, load, result_document, trained_network
from hwnas.dense.coco import CocoData, Photo, open_coco, some_of
from hwnas.dense.data import MAX_CLASSES, DenseBatch, DenseBatches
from hwnas.dense.evaluation import LEADING, DenseEvaluation, evaluate
from hwnas.dense.networks import TASKS, DenseNetwork, build_dense
from hwnas.dense.recipe import DenseRecipe
from hwnas.errors import FileFormatError, UsageError
from hwnas.io.atomic import write_whole
from hwnas.io.tensors import below
from hwnas.space import ArchSpec
from hwnas.space.changes import renamed
from hwnas.targets import Promise
from hwnas.train.callbacks import Callback, listed
from hwnas.train.distributed import joined
from hwnas.train.folder import prepared_folder
from hwnas.train.init_weights import Start, fitted, initialise
from hwnas.train.trainer import Context, Skipped, Trainer

__all__ = [
    "DenseResult",
    "DenseTrainer",
    "evaluate_checkpoint",
    "initialise_dense",
    "train",
]


class DenseTrainer(Trainer[DenseNetwork, DenseBatch, DenseCheckpoint, DenseRecord]):
    """Trains by the sum of torchvision's losses for the task."""

    def __init__(
        self,
        start: DenseCheckpoint,
        steps: int,
        evaluation: DenseBatches,
        context: Context,
        *,
        initialise: Callable[[DenseNetwork], None] | None = None,
    ) -> None:
        self.task, self.classes, self.evaluation = start.task, len(start.classes_names), evaluation
        with isolated(start.recipe.seed, "weights"):
            network = build_dense(start.arch, start.task, self.classes, start.recipe)
            if initialise is not None:
                initialise(network)
        super().__init__(network.to(context.device), start.recipe, steps, context)

    def usable(self, batch: DenseBatch) -> int:
        """All images that could be read."""
        return len(batch.images)

    def backward(self, batch: DenseBatch) -> Tensor:
        """Adds the gradients of the sum of the losses; the sum, detached."""
        images = [image.to(self.device, non_blocking=True) for image in batch.images]
        targets: list[Mapping[str, Tensor]] = [
            {name: value.to(self.device, non_blocking=True) for name, value in target.items()}
            for target in batch.targets
        ]
        with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
            losses: dict[str, Tensor] = self.network(images, targets)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        self.scaler.scale(loss).backward()
        return loss.detach()

    def none_usable(self, unreadable: Skipped) -> str:
        """Names the first one, and its reason."""
        name, reason = unreadable[0]
        return f"none of the {len(unreadable)} training images can be used, '{name}' first: {reason}"

    def evaluate(self, number: int, loss: float, lr: float, began: float) -> tuple[DenseRecord, Skipped]:
        """The task's scores on the evaluation photos, in float32."""
        found = evaluate(
            self.evaluated, self.evaluation, self.task, self.classes, device=self.device, clock=self.clock
        )
        return DenseRecord(number, loss, found.scores, lr, self.clock() - began), found.unreadable

    def score(self, record: DenseRecord) -> float:
        """The task's leading score."""
        return record.scores[LEADING[self.task]]


# --- initial weights: an image classifier's for the backbone, or another dense network's ------

_BODY = "inner.backbone.body.network."


def initialise_dense(
    network: DenseNetwork,
    requested: Path | str | Callable[[ArchSpec], Start],
    arch: ArchSpec,
    callback: Callback,
) -> None:
    """Start from the weights that `--init` names, or that `requested` finds, where they fit; says which did.

    A dense training gives what has the same name and shape, heads of as many classes included; anything
    else that `hwnas.train.init_weights` knows gives the backbone. Biases within windows are resized.

    Raises UsageError when nothing fits or goes by that name, FileFormatError when a file is damaged.
    """
    if not callable(requested) and Path(requested).exists():
        try:
            other = load(requested)
        except FileFormatError:
            other = None  # a classifier's, or damaged: what follows says so
        if other is not None:
            own = network.state_dict()
            taken = {
                name: weight
                for name, weight in other.state_dict.items()
                if name in own and weight.shape == own[name].shape
            }
            backbone = fitted(below(own, _BODY), below(other.state_dict, _BODY))
            taken |= {f"{_BODY}{name}": weight for name, weight in backbone.items()}
            network.load_state_dict(taken, strict=False)
            callback.note(f"{requested} ({other.task}): {len(taken)} of {len(own)} tensors taken")
            return
    initialise(network.backbone.network, requested, arch, callback)


# --- a training, from a data folder to a result -----------------------------------------------


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
    callback: Callback | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> DenseResult:
    """Train `arch` as the backbone of a `task` (detect, instance, segment) into the folder `out`.

    `data` is as `hwnas.dense.coco` expects it, `init` as `hwnas.dense.trainer` reads it; `limit` keeps
    that many training images, drawn by the recipe's seed. With `resume`, goes on after the last finished
    epoch of `out`, or starts when there is none. Where torchrun started several processes, each calls
    this alike.

    Raises UsageError for data, folders and options that don't fit, FileFormatError for annotations that
    are broken, TrainingFailed when the loss is not finite. KeyboardInterrupt passes through at any time:
    the last finished epoch is on the disk.
    """
    plugins.require("pycocotools", extra="dense")
    with joined(device, recipe.batch_size) as group:
        context = Context.of(device, group, callback, clock)
        photos = _opened(data, task)
        if photos.left_out:
            context.callback.note(listed("annotations left out", list(photos.left_out)))
        if limit is not None:
            photos = some_of(photos, limit, recipe.seed)
        start = _requested(arch, task, photos, recipe, name, limit, promise)
        if len(photos.train) < 2 * group.size:
            raise UsageError(f"each process needs 2 images to train on, got {len(photos.train)} in all")
        before = prepared_folder(out, start, KIND, resume=resume, callback=context.callback, group=group)
        if before is not None and promise is None:
            start = dataclasses.replace(start, promise=before.promise)
        workers = worker_count(recipe.workers, group.size)
        share = (group.rank, group.size)
        training = DenseBatches(photos.train, task, recipe, training=True, workers=workers, share=share)
        evaluation = DenseBatches(photos.evaluation, task, recipe, training=False, workers=workers)
        trainer = DenseTrainer(
            start,
            len(training),
            evaluation,
            context,
            initialise=None
            if init is None or before is not None
            else partial(initialise_dense, requested=init, arch=start.arch, callback=context.callback),
        )
        if before is not None:
            trainer.restore(before)
        with deterministic(device):
            history = trainer.fit(start, () if before is None else before.history, training, KIND, out)
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
    network = trained_network(checkpoint).to(device)
    return evaluate(network, batches, checkpoint.task, len(photos.classes), device=device)


def _opened(data: Path, task: str) -> CocoData:
    if task not in TASKS:
        raise UsageError(f"--task must be one of {', '.join(TASKS)}, got '{task}'")
    photos = open_coco(data, outlines=task != "detect")
    if task == "segment" and len(photos.classes) > MAX_CLASSES:
        raise UsageError(f"segmentation takes at most {MAX_CLASSES} classes, got {len(photos.classes)}")
    return photos


def _requested(
    arch: ArchSpec,
    task: str,
    photos: CocoData,
    recipe: DenseRecipe,
    name: str,
    limit: int | None,
    promise: Promise | None,
) -> DenseCheckpoint:
    """The requested training, as a checkpoint without weights."""
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
