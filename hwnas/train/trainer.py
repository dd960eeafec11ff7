"""Trainer: a classifier, its loss on mixed images and a teacher's answers, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from hwnas import plugins
from hwnas.data.loader import Batch, Batches
from hwnas.data.randomness import isolated
from hwnas.errors import FileFormatError
from hwnas.space import ArchSpec
from hwnas.train import distillation
from hwnas.train.callbacks import Callback, FinishedEpoch, Progress, TrainingFailed, listed
from hwnas.train.checkpoint import BEST, LAST, Checkpoint, EpochRecord, Saved, TrainingState
from hwnas.train.distillation import Teacher
from hwnas.train.distributed import Group
from hwnas.train.evaluation import evaluate
from hwnas.train.folder import write_history
from hwnas.train.optim import make_optimizer, make_schedule, matrix_precision
from hwnas.train.recipe import FlatRecipe, Recipe

__all__ = [
    "Epochs",
    "Readable",
    "Trainable",
    "Trainer",
    "Updates",
    "all_epochs",
]


# --- updates of one epoch, for any network and loss ------------------------------------------


class Readable(Protocol):
    """A batch: what could be read of it, and what could not."""

    @property
    def unreadable(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of each image that is left out."""
        ...


Network = TypeVar("Network", bound=nn.Module)
BatchT = TypeVar("BatchT", bound=Readable)
Batch_co = TypeVar("Batch_co", bound=Readable, covariant=True)


class Epochs(Protocol[Batch_co]):
    """Batches, anew for each epoch."""

    def epoch(self, number: int) -> Iterator[Batch_co]:
        """The batches of one pass."""
        ...


class Updates(ABC, Generic[Network, BatchT]):
    """What an epoch changes: network, optimiser, schedule, moving average, loss scaling.

    What a batch is, and its loss, is the subclass's.
    """

    gpu_asked_every: ClassVar[int] = 1
    """Updates after which a GPU is asked for its loss, which makes it wait."""

    left_out: ClassVar[str] = "images left out"
    """What is said of images that could not be used."""

    def __init__(
        self,
        network: Network,
        recipe: FlatRecipe,
        steps: int,
        device: str,
        clock: Callable[[], float],
        callback: Callback,
        group: Group,
    ) -> None:
        """`network` lies on `device` and has its first weights; `steps` updates are an epoch."""
        averaging = plugins.require("timm.utils", extra="torch")
        self.network, self.steps, self.device = network, steps, device
        self.clock, self.callback, self.group = clock, callback, group
        self._recipe = recipe
        self.optimizer = make_optimizer(network, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, steps)
        self.average = (
            averaging.ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        self.cast = matrix_precision(recipe.precision, device)
        self.scaler = torch.amp.GradScaler(device, enabled=self.cast is torch.float16)
        self.updates = 0

    @abstractmethod
    def usable(self, batch: BatchT) -> int:
        """Images of the batch that an update sees; it is left out without any."""

    @abstractmethod
    def backward(self, batch: BatchT) -> Tensor:
        """Adds the gradients of the mean loss over `usable` images, scaled; the loss, detached."""

    @abstractmethod
    def none_usable(self, unreadable: Sequence[tuple[str, str]]) -> str:
        """What to say when an epoch had no image to train on: (name, reason) of each."""

    @property
    def judged(self) -> Network:
        """The network whose scores count: the moving average where there is one."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def epoch(self, number: int, batches: Epochs[BatchT]) -> tuple[float, float, tuple[tuple[str, str], ...]]:
        """One pass: mean loss, last learning rate, what could not be used.

        Raises TrainingFailed when the loss is not finite, FileFormatError when nothing can be used.
        """
        self.network.train()
        asked_every = 1 if self.device == "cpu" else self.gpu_asked_every
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, steps
        seen, began = 0, self.clock()
        unreadable: list[tuple[str, str]] = []
        lr = 0.0
        self.updates = (number - 1) * self.steps
        with isolated(self._recipe.seed, "epoch", number):
            for step, batch in enumerate(batches.epoch(number), start=1):
                unreadable += batch.unreadable
                self.schedule.step_update(self.updates)
                lr = float(self.optimizer.param_groups[0]["lr"])
                self.updates += 1
                images = self.usable(batch)
                if not images and self.group.size == 1:
                    continue
                totals += self._update(batch)
                seen += images
                if step % asked_every == 0 or step == self.steps:
                    mean = float(totals[0] / totals[1].clamp(min=1))
                    if not math.isfinite(mean):
                        raise TrainingFailed.because(number, "training loss", mean)
                    self.callback.step(
                        Progress.after(
                            step,
                            steps=self.steps,
                            epoch=number,
                            epochs=self._recipe.epochs,
                            loss=mean,
                            images=seen * self.group.size,
                            seconds=self.clock() - began,
                        )
                    )
        loss, steps_done = self.group.sum(totals).tolist()
        if not steps_done:
            raise FileFormatError(self.none_usable(unreadable))
        self.group.average_statistics(self.network)
        if self.average is not None:
            self.group.average_statistics(self.judged)
        return loss / steps_done, lr, tuple(self.group.gathered(unreadable))

    def state(self) -> TrainingState:
        """What a resumed training needs besides the weights to use."""
        return TrainingState(
            model=dict(self.network.state_dict()),
            optimizer=self.optimizer.state_dict(),
            updates=self.updates,
            scaler=self.scaler.state_dict(),
            average={} if self.average is None else dict(self.judged.state_dict()),
        )

    def restore(self, saved: Any) -> None:
        """Go on from a checkpoint of this very training; raises FileFormatError for one without a state."""
        state: TrainingState | None = saved.training
        if state is None:
            raise FileFormatError(f"{saved.path}: this checkpoint holds no optimiser, it cannot be resumed")
        self.network.load_state_dict(state.model)
        if self.average is not None:
            self.judged.load_state_dict(state.average)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        self.updates = state.updates

    def _update(self, batch: BatchT) -> Tensor:
        """Forward, backward, one update of the weights; (loss, 1), or zeros without images."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(2, device=self.device)
        if self.usable(batch):
            loss = self.backward(batch)
            total = torch.stack([loss, torch.ones_like(loss)])
        self.group.average_gradients(self.network)
        if self._recipe.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, step=self.updates)
        return total


# --- classifier ------------------------------------------------------------------------------


class Trainer(Updates[nn.Module, Batch]):
    """Updates by the recipe's loss."""

    gpu_asked_every = 50
    left_out = "unreadable images left out"

    def __init__(
        self,
        arch: ArchSpec,
        recipe: Recipe,
        steps: int,
        device: str,
        builder: Callable[[ArchSpec], nn.Module],
        clock: Callable[[], float],
        callback: Callback,
        group: Group,
        teacher: Teacher | None,
        initialise: Callable[[nn.Module], None] | None = None,
    ) -> None:
        mixing, losses = (plugins.require(f"timm.{part}", extra="torch") for part in ("data", "loss"))
        self.recipe, self.teacher = recipe, teacher
        with isolated(recipe.seed, "weights"):
            network = builder(arch)
            if initialise is not None:
                initialise(network)
            if teacher is not None:
                distillation.give_second_head(network)
        network = network.to(device).to(memory_format=torch.channels_last)
        super().__init__(network, recipe, steps, device, clock, callback, group)
        self.forward: Callable[[Tensor], Tensor] = (
            cast(Any, torch.compile(network)) if recipe.compile else network
        )
        self.mix = None
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            self.mix = mixing.Mixup(
                mixup_alpha=recipe.mixup_alpha,
                cutmix_alpha=recipe.cutmix_alpha,
                label_smoothing=recipe.label_smoothing,
                num_classes=arch.classes,
            )
            self.criterion: nn.Module = losses.SoftTargetCrossEntropy()
        else:
            self.criterion = losses.LabelSmoothingCrossEntropy(recipe.label_smoothing)

    def usable(self, batch: Batch) -> int:
        """An even number, since timm's Mixup pairs the images."""
        return len(batch.labels) - len(batch.labels) % 2

    def backward(self, batch: Batch) -> Tensor:
        """Adds the gradients of the mean loss, part by part; the loss, detached."""
        count = self.usable(batch)
        images = batch.images[:count].to(self.device, non_blocking=True, memory_format=torch.channels_last)
        targets = batch.labels[:count].to(self.device, non_blocking=True)
        if self.mix is not None:
            images, targets = self.mix(images, targets)
        parts = min(self.recipe.accumulate, count // 2)
        total = torch.zeros((), device=self.device)
        for some, wanted in zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True):
            loss = self._loss(some, wanted) * (len(some) / count)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        return total

    def none_usable(self, unreadable: Sequence[tuple[str, str]]) -> str:
        """Names the first one."""
        return f"none of the {len(unreadable)} training images could be decoded, '{unreadable[0][0]}' first"

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
            logits = self.forward(images)
            answers = None if self.teacher is None else self.teacher(images)
        if answers is None:
            loss: Tensor = self.criterion(logits.float(), targets)
            return loss
        return distillation.loss(logits.float(), targets, answers, self.criterion, self.recipe.teacher_share)

    def judge(
        self, number: int, loss: float, lr: float, batches: Batches, began: float
    ) -> tuple[EpochRecord, tuple[tuple[str, str], ...]]:
        """The accuracy of the judged network, in float32; and what could not be judged on.

        Raises TrainingFailed when the loss is not finite.
        """
        found = evaluate(self.judged, batches, device=self.device, clock=self.clock)
        if not math.isfinite(found.loss):
            raise TrainingFailed.because(number, "evaluation loss", found.loss)
        record = EpochRecord(number, loss, found.top1_percent, found.top5_percent, lr, self.clock() - began)
        return record, tuple(found.unreadable)

    def score(self, record: EpochRecord) -> float:
        """Top-1."""
        return record.top1_percent

    def checkpoint(self, start: Checkpoint, history: tuple[EpochRecord, ...]) -> Checkpoint:
        """The state after the last record of `history`."""
        weights = distillation.merged(dict(self.judged.state_dict()))
        return dataclasses.replace(start, state_dict=weights, history=history, training=self.state())


# --- all epochs ------------------------------------------------------------------------------


AnySaved = TypeVar("AnySaved", bound=Saved[Any, Any])
BatchesT = TypeVar("BatchesT", contravariant=True)
Record = TypeVar("Record", bound=FinishedEpoch)


class Trainable(Protocol[AnySaved, BatchesT, Record]):
    """A network with all that trains and judges it."""

    @property
    def left_out(self) -> str:
        """What is said of images that could not be used, as in '3 images left out'."""

    clock: Callable[[], float]
    callback: Callback
    group: Group

    def epoch(self, number: int, batches: BatchesT) -> tuple[float, float, Sequence[tuple[str, str]]]:
        """One pass: mean loss, last learning rate, what could not be used."""

    def judge(
        self, number: int, loss: float, lr: float, batches: BatchesT, began: float
    ) -> tuple[Record, Sequence[tuple[str, str]]]:
        """How good the network is after that epoch, which began at that time of `clock`; and what could
        not be judged on."""

    def score(self, record: Record) -> float:
        """What `best` is chosen by, the higher the better."""

    def checkpoint(self, start: AnySaved, history: tuple[Record, ...]) -> AnySaved:
        """The state after the last record of `history`."""


def all_epochs(
    trainer: Trainable[AnySaved, BatchesT, Record],
    start: AnySaved,
    history: tuple[Record, ...],
    training: BatchesT,
    evaluation: BatchesT,
    out: Path,
    save: Callable[[AnySaved, Path], None],
) -> tuple[Record, ...]:
    """Trains and judges the epochs after `history`, each kept before the next; the whole history."""
    known_bad: set[str] = set()
    for number in range(len(history) + 1, start.recipe.epochs + 1):
        began = trainer.clock()
        loss, lr, unused = trainer.epoch(number, training)
        record, unjudged = trainer.judge(number, loss, lr, evaluation, began)
        bad = [item for item in (*unused, *unjudged) if item[0] not in known_bad]
        if bad:
            known_bad.update(file for file, _ in bad)
            trainer.callback.note(listed(trainer.left_out, bad))
        is_best = all(trainer.score(record) > trainer.score(earlier) for earlier in history)
        history = (*history, record)
        if trainer.group.is_first:
            current = trainer.checkpoint(start, history)
            if is_best:  # before `last`: a kill in between repeats the epoch, and with it the best
                save(dataclasses.replace(current, training=None), out / BEST)
            save(current, out / LAST)
            write_history(out, history)
        trainer.callback.epoch(record)
    return history
