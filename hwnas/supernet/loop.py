"""Training a supernet into a folder: epoch by epoch, resumable after any interruption.

An interruption repeats the epoch it fell into. All randomness of an epoch follows from the seed and its
number, so a resumed training ends, on a CPU with as many threads, with the very bits of an uninterrupted
one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.images import Images
from hwnas.data.randomness import deterministic
from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.space import SearchSpace
from hwnas.supernet.checkpoint import Checkpoint, EpochRecord, resume_point, save
from hwnas.supernet.images import IMAGES, JudgingImages, divided, selected, write_judging_images
from hwnas.supernet.judge import Judge
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.settings import Settings
from hwnas.supernet.trainer import Trainer
from hwnas.supernet.weights import SharedWeights
from hwnas.train.callbacks import Observer, Silent
from hwnas.train.checkpoint import LAST, PREVIOUS
from hwnas.train.folder import described_data, newest, refuse_another, write_history

__all__ = ["Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training."""

    out: Path
    space: SearchSpace
    """As trained."""
    parameters: int
    """Shared ones, of all networks together."""
    history: tuple[EpochRecord, ...]


def train(
    space: SearchSpace,
    data: Path | Images,
    settings: Settings,
    out: Path,
    *,
    limit: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    observer: Observer | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Train shared weights for the networks of `space` on the training images of `data`, into `out`.

    The space gets the data's classes; its images are decoded once, at its largest resolution, and kept in
    memory. `limit` keeps that many of them, equally many of each class. With `resume`, goes on after the
    last finished epoch of `out`, or starts when there is none.

    Raises UsageError for data, folders and options that don't fit (among them a resume that asks for
    something else than what `out` holds), TrainingFailed when the loss is not finite, FileFormatError
    when no checkpoint of `out` is whole.
    """
    observer = observer or Silent()
    images = data if isinstance(data, Images) else open_images(data)
    classes = images.classes()
    space = dataclasses.replace(space, classes=len(classes))
    chosen = selected(images, limit, settings.seed)
    asked = Checkpoint(
        space, settings, classes, {}, (), {**described_data(images, chosen, ()), "limit": limit}
    )
    before = _prepared(out, asked, resume, observer)
    pixels, judging = divided(
        images,
        side=max(space.resolution),
        limit=limit,
        held_back=settings.held_back,
        calibration=settings.calibration_images,
        seed=settings.seed,
    )
    if not (out / IMAGES).exists():
        write_judging_images(judging, out)
    sandwich = Sandwich(space, settings.random_networks, settings.max_macs)
    weights = SharedWeights.fresh(space, seed=settings.seed, branch_weight=settings.branch_weight).to(device)
    trainer = Trainer(weights, sandwich, settings, pixels, observer, clock)
    if before is not None:
        trainer.restore(before)
    history = () if before is None else before.history
    with deterministic(device):
        history = _epochs(trainer, asked, history, judging, out)
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    return Trained(out, space, count, history)


def _epochs(
    trainer: Trainer,
    asked: Checkpoint,
    history: tuple[EpochRecord, ...],
    judging: JudgingImages,
    out: Path,
) -> tuple[EpochRecord, ...]:
    """Train and judge epoch by epoch, each kept before the next; the whole history."""
    sandwich, settings = trainer.sandwich, asked.settings
    for number in range(len(history) + 1, settings.epochs + 1):
        began = trainer.clock()
        loss, lr = trainer.epoch(number)
        judge = Judge(trainer.weights, judging, sandwich, precision=settings.precision)
        largest, smallest = (
            {type_: judge.top1_percent(arch) for type_, arch in zip(sandwich.types, archs, strict=True)}
            for archs in (sandwich.largest, sandwich.smallest)
        )
        record = EpochRecord(number, loss, largest, smallest, lr, trainer.clock() - began)
        history = (*history, record)
        state = trainer.state()
        save(dataclasses.replace(asked, tensors=state.model, history=history, training=state), out)
        write_history(out, history)
        trainer.observer.epoch(record)
    return history


def _prepared(out: Path, asked: Checkpoint, resume: bool, observer: Observer) -> Checkpoint | None:
    """Make the folder, or find in it what is to be resumed; raises UsageError for what doesn't fit."""
    held = [file for file in (LAST, PREVIOUS) if (out / file).exists()]
    if held and not resume:
        raise UsageError(f"{out} already holds a training: add --resume to go on, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}: choose another folder") from None
    if not held:
        return None
    saved = newest(out, resume_point, observer)
    refuse_another(out, "supernet", _differences(saved, asked))
    observer.note(f"resuming after epoch {len(saved.history)} of {asked.settings.epochs}")
    return saved


def _differences(saved: Checkpoint, asked: Checkpoint) -> list[str]:
    there: dict[str, Any] = {
        "space": saved.space.to_dict(),
        "classes": saved.classes_names,
        **saved.settings.to_dict(),
        **{f"data {name}": value for name, value in saved.data.items() if name != "name"},
    }
    wanted: dict[str, Any] = {
        "space": asked.space.to_dict(),
        "classes": asked.classes_names,
        **asked.settings.to_dict(),
        **{f"data {name}": value for name, value in asked.data.items() if name != "name"},
    }
    return [
        f"  {name}: another one there"
        if name == "space"
        else f"  {name}: {there[name]} there, {value} asked for"
        for name, value in wanted.items()
        if there.get(name) != value
    ]
