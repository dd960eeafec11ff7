"""Training a network on images: one process or several, CPU or GPU, resumable after any interruption.

What is kept is the last finished epoch; an interruption repeats the epoch it fell into. Randomness of
an epoch follows from the seed and the epoch's number (`hwnas.data.randomness`), so a resumed training
ends, on a CPU with as many threads, bit-identical to an uninterrupted one. What a training's folder
holds is in `hwnas.train.folder`, several processes are in `hwnas.train.distributed`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from hwnas.data.images import Image, Images, subset
from hwnas.data.loader import Batches, evaluation_batches, training_batches, worker_count
from hwnas.data.randomness import deterministic
from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.io.atomic import write_whole
from hwnas.space import ArchSpec
from hwnas.space.changes import renamed
from hwnas.targets import Promise
from hwnas.train.callbacks import Callback, Progress, TrainingFailed, listed
from hwnas.train.checkpoint import KIND, Checkpoint, EpochRecord
from hwnas.train.distillation import load_teacher
from hwnas.train.distributed import Group, joined
from hwnas.train.folder import described_data, prepared_folder, result_document
from hwnas.train.init_weights import Start, initialise
from hwnas.train.recipe import Recipe
from hwnas.train.trainer import ClassifierTrainer, Context

__all__ = ["Callback", "Progress", "TrainingFailed", "TrainingResult", "train"]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training."""

    out: Path
    arch: ArchSpec
    """As trained."""
    history: tuple[EpochRecord, ...]
    document: Mapping[str, Any]
    """What result.json holds."""

    @property
    def best(self) -> EpochRecord:
        """The first epoch with the highest accuracy."""
        return max(self.history, key=lambda record: record.top1_percent)


def train(
    arch: ArchSpec,
    data: Path | Images,
    recipe: Recipe,
    out: Path,
    *,
    name: str = "",
    promise: Promise | None = None,
    resume: bool = False,
    init: Path | str | Callable[[ArchSpec], Start] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    builder: Callable[[ArchSpec], nn.Module] | None = None,
    callback: Callback | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train `arch`, adapted to the images of `data`, into the folder `out`.

    `limit` keeps that many training images, equally many of each class, drawn by the recipe's seed.
    `init` names weights to start from, as `hwnas.train.init_weights` reads it, or finds them. With
    `resume`, goes on after the last finished epoch of `out`, or starts when there is none. `builder`
    makes the network (by default hwnas.nn.build). Where torchrun started several processes, each calls
    this alike. `promise` is kept in each checkpoint: the budgets that the network was searched for. A
    network that is adapted is another one, and is named so (`hwnas.space.changes`).

    Raises UsageError for data, folders and options that don't fit (among them a resume that asks for
    something else than what `out` holds), TrainingFailed when the loss is not finite, FileFormatError
    when no checkpoint of `out` is whole. KeyboardInterrupt passes through at any time: the last
    finished epoch is on the disk.
    """
    with joined(device, recipe.batch_size) as group:
        context = Context.of(device, group, callback, clock)
        images = data if isinstance(data, Images) else open_images(data)
        if images.remark:
            context.callback.note(images.remark)
        if images.left_out:
            context.callback.note(listed("files left out", list(images.left_out)))
        start = _requested(arch, images, recipe, name, limit, promise)
        before = prepared_folder(out, start, KIND, resume=resume, callback=context.callback, group=group)
        if before is not None and promise is None:
            start = dataclasses.replace(start, promise=before.promise)
        init = None if before is not None else init
        training, evaluation = _batches(images, start, device, group)
        trainer = ClassifierTrainer(
            start,
            len(training),
            evaluation,
            context,
            builder=builder or _default_builder(),
            teacher=load_teacher(recipe.teacher, start.classes_names).to(device) if recipe.teacher else None,
            initialise=None
            if init is None
            else partial(initialise, requested=init, arch=start.arch, callback=context.callback),
        )
        if before is not None:
            trainer.restore(before)
        with deterministic(device):
            history = trainer.fit(start, () if before is None else before.history, training, KIND, out)
        finished = dataclasses.replace(start, history=history)
        document = result_document(finished, device=device, evaluation_split=images.evaluation_split())
        if group.is_first:
            write_whole(out / "result.json", json.dumps(document, indent=2) + "\n")
        return TrainingResult(out, start.arch, history, document)


def _requested(
    arch: ArchSpec, images: Images, recipe: Recipe, name: str, limit: int | None, promise: Promise | None
) -> Checkpoint:
    """The requested training, as a checkpoint without weights."""
    classes = images.classes()
    adapted = recipe.adapted(arch, classes=len(classes))
    described = described_data(
        images, _selected(images, limit, recipe), images.split(images.evaluation_split())
    )
    return Checkpoint(
        arch=adapted,
        state_dict={},
        classes_names=classes,
        recipe=recipe,
        history=(),
        name=renamed(name, arch, adapted),
        data={**described, "limit": limit},
        promise=promise,
    )


def _selected(images: Images, limit: int | None, recipe: Recipe) -> tuple[Image, ...]:
    selected = images.split("train")
    return selected if limit is None else subset(selected, limit, recipe.seed)


def _batches(images: Images, start: Checkpoint, device: str, group: Group) -> tuple[Batches, Batches]:
    """The training batches, of which each process has a share, and those to evaluate on."""
    options: dict[str, Any] = {
        "size": start.arch.resolution,
        "workers": worker_count(start.recipe.workers, group.size),
        "pin_memory": device != "cpu",
    }
    selected = _selected(images, start.data["limit"], start.recipe)
    evaluated = images.split(images.evaluation_split())
    classes, recipe = start.classes_names, start.recipe
    if len(selected) < 2 * group.size:
        raise UsageError(f"each of {group.size} processes needs 2 images, got {len(selected)} in all")
    return (
        training_batches(
            images,
            selected,
            classes,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            share=(group.rank, group.size),
            **options,
        ),
        evaluation_batches(
            images,
            evaluated,
            classes,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            **options,
        ),
    )


def _default_builder() -> Callable[[ArchSpec], nn.Module]:
    from hwnas.nn import build

    return build
