"""Trainer: shared weights, optimiser and schedule, and one epoch of the sandwich rule."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hwnas.data.images import Images
from hwnas.data.pixels import Pixels
from hwnas.data.randomness import derived_seed, deterministic
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError
from hwnas.space import ArchSpec, SearchSpace
from hwnas.supernet.checkpoint import Checkpoint, EpochRecord, resume_point, save
from hwnas.supernet.evaluator import SubnetEvaluator
from hwnas.supernet.images import (
    IMAGES,
    EvaluationImages,
    resized,
    selected,
    split_images,
    write_evaluation_images,
)
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.settings import Settings
from hwnas.supernet.weights import SharedWeights, SubnetCache
from hwnas.train.callbacks import Callback, NullCallback, Progress, TrainingFailed
from hwnas.train.checkpoint import LAST, PREVIOUS, TrainingState
from hwnas.train.folder import described_data, newest, refuse_another, write_history
from hwnas.train.optim import make_schedule, matrix_precision

__all__ = [
    "Trained",
    "Trainer",
    "train",
]


class Trainer:
    """What an epoch changes: the shared weights, the optimiser, the schedule, loss scaling."""

    def __init__(
        self,
        weights: SharedWeights,
        sandwich: Sandwich,
        settings: Settings,
        pixels: Pixels,
        callback: Callback,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.weights, self.sandwich, self.settings = weights, sandwich, settings
        self.callback, self.clock = callback, clock
        self.device = weights.device.type
        self.pixels = pixels.to(self.device)
        self.steps = max(1, len(pixels) // min(settings.batch_size, len(pixels)))
        self.networks = SubnetCache(weights, recurring=sandwich.recurring, compile=settings.compile)
        # fused: one pass over a tensor instead of several, and the shared ones are large
        self.optimizer = torch.optim.AdamW(
            _groups(weights, settings.weight_decay), lr=settings.lr, fused=True
        )
        self.schedule: Any = make_schedule(self.optimizer, settings, self.steps)
        self.cast = matrix_precision(settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.cast is torch.float16)

    def epoch(self, number: int) -> tuple[float, float]:
        """One pass over the images: the largest networks' mean loss, and the last learning rate.

        Order, augmentation and the networks drawn follow from the seed and `number`, 1 for the first.
        Raises TrainingFailed when the loss is not finite.
        """
        rng = random.Random(derived_seed(self.settings.seed, "networks", number))
        total = torch.zeros((), device=self.device)
        check_every = 1 if self.device == "cpu" else 50  # asking a GPU for its loss makes it wait
        began, lr = self.clock(), 0.0
        batches = self.pixels.training_batches(
            self.settings.batch_size, seed=self.settings.seed, epoch=number
        )
        for step, (images, labels) in enumerate(batches, start=1):
            update = (number - 1) * self.steps + step - 1
            self.schedule.step_update(update)
            lr = float(self.optimizer.param_groups[0]["lr"])
            total += self.update(images, labels, self.sandwich.networks(update, rng))
            if step % check_every == 0 or step == self.steps:
                mean = float(total) / step
                if not math.isfinite(mean):
                    raise TrainingFailed.because(number, "training loss", mean)
                self.callback.step(
                    Progress.after(
                        step,
                        steps=self.steps,
                        epoch=number,
                        epochs=self.settings.epochs,
                        loss=mean,
                        images=step * self.settings.batch_size,
                        seconds=self.clock() - began,
                    )
                )
        return float(total) / self.steps, lr

    def update(self, images: torch.Tensor, labels: torch.Tensor, archs: Sequence[ArchSpec]) -> torch.Tensor:
        """One update of the weights by several networks on one batch; the first one's loss.

        The first learns the labels, the others its answers as well (in-place distillation: Yu and Huang,
        2019). Their gradients are added up, and cut together.
        """
        self.optimizer.zero_grad(set_to_none=True)
        first = torch.zeros((), device=self.device)
        answers: torch.Tensor | None = None
        for arch in archs:
            network, forward = self.networks.network(arch)
            with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
                logits = forward(resized(images, arch.resolution)).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
            if answers is None:
                answers, first = logits.detach().softmax(dim=1), loss.detach()
            else:
                share = self.settings.teacher_share
                loss = (1 - share) * loss + share * F.cross_entropy(logits, answers)
            self.scaler.scale(loss).backward()
            self.weights.add_gradients(network, arch)
            network.zero_grad(set_to_none=True)
        if self.settings.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.weights.tensors.values(), self.settings.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return first

    def state(self) -> TrainingState:
        """What a resumed training needs besides the weights."""
        return TrainingState(
            model={name: tensor.detach() for name, tensor in self.weights.tensors.items()},
            optimizer=self.optimizer.state_dict(),
            updates=0,
            scaler=self.scaler.state_dict(),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of this very training; raises FileFormatError when it is of another."""
        if saved.training is None or set(saved.tensors) != set(self.weights.tensors):
            raise FileFormatError(f"{saved.path}: not a checkpoint of this training: it cannot be resumed")
        with torch.no_grad():
            for name, tensor in self.weights.tensors.items():
                tensor.copy_(saved.tensors[name])
        self.optimizer.load_state_dict(saved.training.optimizer)
        self.scaler.load_state_dict(saved.training.scaler)


def _groups(weights: SharedWeights, weight_decay: float) -> list[dict[str, Any]]:
    """Kernels and matrices decay; norms, biases, scalars and tables of attention biases don't."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, tensor in weights.tensors.items():
        (decayed if tensor.ndim > 1 and not name.endswith("bias.table") else plain).append(tensor)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


# --- a training, from a data folder to a supernet ---------------------------------------------
# An interruption repeats the epoch it fell into. All randomness of an epoch follows from the seed and its
# number, so a resumed training ends, on a CPU with as many threads, with the very bits of an uninterrupted
# one.


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
    callback: Callback | None = None,
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
    callback = callback or NullCallback()
    images = data if isinstance(data, Images) else open_images(data)
    classes = images.classes()
    space = dataclasses.replace(space, classes=len(classes))
    chosen = selected(images, limit, settings.seed)
    asked = Checkpoint(
        space, settings, classes, {}, (), {**described_data(images, chosen, ()), "limit": limit}
    )
    before = _prepared(out, asked, resume, callback)
    pixels, evaluation_images = split_images(
        images,
        side=max(space.resolution),
        limit=limit,
        held_back=settings.held_back,
        calibration=settings.calibration_images,
        seed=settings.seed,
    )
    if not (out / IMAGES).exists():
        write_evaluation_images(evaluation_images, out)
    sandwich = Sandwich(space, settings.random_networks, settings.max_macs)
    weights = SharedWeights.fresh(space, seed=settings.seed, branch_weight=settings.branch_weight).to(device)
    trainer = Trainer(weights, sandwich, settings, pixels, callback, clock)
    if before is not None:
        trainer.restore(before)
    history = () if before is None else before.history
    with deterministic(device):
        history = _epochs(trainer, asked, history, evaluation_images, out)
    count = sum(tensor.numel() for tensor in weights.tensors.values())
    return Trained(out, space, count, history)


def _epochs(
    trainer: Trainer,
    asked: Checkpoint,
    history: tuple[EpochRecord, ...],
    evaluation_images: EvaluationImages,
    out: Path,
) -> tuple[EpochRecord, ...]:
    """Train and evaluator epoch by epoch, each kept before the next; the whole history."""
    sandwich, settings = trainer.sandwich, asked.settings
    for number in range(len(history) + 1, settings.epochs + 1):
        began = trainer.clock()
        loss, lr = trainer.epoch(number)
        evaluator = SubnetEvaluator(
            trainer.weights, evaluation_images, sandwich, precision=settings.precision
        )
        largest, smallest = (
            {type_: evaluator.top1_percent(arch) for type_, arch in zip(sandwich.types, archs, strict=True)}
            for archs in (sandwich.largest, sandwich.smallest)
        )
        record = EpochRecord(number, loss, largest, smallest, lr, trainer.clock() - began)
        history = (*history, record)
        state = trainer.state()
        save(dataclasses.replace(asked, tensors=state.model, history=history, training=state), out)
        write_history(out, history)
        trainer.callback.epoch(record)
    return history


def _prepared(out: Path, asked: Checkpoint, resume: bool, callback: Callback) -> Checkpoint | None:
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
    saved = newest(out, resume_point, callback)
    refuse_another(out, "supernet", _differences(saved, asked))
    callback.note(f"resuming after epoch {len(saved.history)} of {asked.settings.epochs}")
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
