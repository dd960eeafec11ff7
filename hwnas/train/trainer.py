"""Trainer: the one training engine. Classifiers, dense networks and supernets are subclasses of it.

It holds the epoch loop, the update, optimiser, schedule, loss scaling, moving average, several processes,
history, checkpoints and resuming. A subclass says what a batch is, its loss, and how the result is evaluated.
"""

from __future__ import annotations

import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
from hwnas.train.callbacks import Callback, FinishedEpoch, NullCallback, Progress, TrainingFailed, listed
from hwnas.train.checkpoint import LAST, Checkpoint, EpochRecord, Kind, Saved, TrainingState
from hwnas.train.distillation import Teacher
from hwnas.train.distributed import Group
from hwnas.train.evaluation import evaluate
from hwnas.train.history import write_history
from hwnas.train.optim import make_optimizer, make_schedule, matrix_precision
from hwnas.train.recipe import TrainingRecipe

__all__ = ["ClassifierTrainer", "Context", "Epochs", "Trainer", "TrainingBatch"]

Skipped = Sequence[tuple[str, str]]
"""(name, reason) of each image that was left out."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a training runs, and who hears of it."""

    device: str = "cpu"
    group: Group = field(default_factory=Group)
    callback: Callback = field(default_factory=NullCallback)
    clock: Callable[[], float] = time.perf_counter
    """Seconds."""

    @classmethod
    def of(cls, device: str, group: Group, callback: Callback | None, clock: Callable[[], float]) -> Context:
        """Of several processes, only the first one reports."""
        heard = callback if callback is not None and group.is_first else NullCallback()
        return cls(device, group, heard, clock)


class TrainingBatch(Protocol):
    """A batch: what could be read of it, and what could not."""

    @property
    def unreadable(self) -> Skipped: ...


Network = TypeVar("Network", bound=nn.Module)
BatchT = TypeVar("BatchT", bound=TrainingBatch)
Batch_co = TypeVar("Batch_co", bound=TrainingBatch, covariant=True)
SavedT = TypeVar("SavedT", bound=Saved[Any, Any])
Record = TypeVar("Record", bound=FinishedEpoch)


class Epochs(Protocol[Batch_co]):
    """Batches, anew for each epoch."""

    def epoch(self, number: int) -> Iterator[Batch_co]:
        """The batches of one pass; all randomness follows from the seed and `number`, 1 for the first."""
        ...


class Trainer(ABC, Generic[Network, BatchT, SavedT, Record]):
    """A network in training.

    All randomness of an epoch follows from the recipe's seed and the epoch's number, so a resumed training
    ends, on a CPU with as many threads, bit-identical to an uninterrupted one.
    """

    gpu_sync_every: ClassVar[int] = 1
    """Updates between two reads of the loss from a GPU; each read waits for it."""
    fused_optimizer: ClassVar[bool] = False
    """See `make_optimizer`."""
    skipped_images: ClassVar[str] = "images left out"
    """What messages call images that could not be used."""

    def __init__(self, network: Network, recipe: TrainingRecipe, steps: int, context: Context) -> None:
        """`network` is on the context's device and has its first weights; an epoch has `steps` updates."""
        averaging = plugins.require("timm.utils", extra="torch")
        self.network, self.steps, self.context = network, steps, context
        self.device, self.clock = context.device, context.clock
        self._recipe = recipe
        self.optimizer = make_optimizer(network, recipe, fused=self.fused_optimizer)
        self.schedule = make_schedule(self.optimizer, recipe, steps)
        self.average = (
            averaging.ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        self.cast = matrix_precision(recipe.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device, enabled=self.cast is torch.float16)
        self.updates = 0

    # --- what a subclass says ---

    @abstractmethod
    def usable(self, batch: BatchT) -> int:
        """Number of images of the batch that an update uses; a batch with 0 is skipped."""

    @abstractmethod
    def backward(self, batch: BatchT) -> Tensor:
        """Adds the scaled gradients of the mean loss over the usable images; returns the loss, detached."""

    @abstractmethod
    def none_usable(self, unreadable: Skipped) -> str:
        """The error message for an epoch without a usable image."""

    @abstractmethod
    def evaluate(self, number: int, loss: float, lr: float, began: float) -> tuple[Record, Skipped]:
        """The record of epoch `number`, which began at that time of the clock, and the images that could
        not be evaluated. Raises TrainingFailed when the evaluation loss is not finite."""

    @abstractmethod
    def score(self, record: Record) -> float:
        """The epoch with the highest score gives the weights to use."""

    def weights(self) -> dict[str, Tensor]:
        """The weights to use, as the checkpoint has them."""
        return dict(self.evaluated.state_dict())

    # --- the engine ---

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated: the moving average where there is one."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def fit(
        self,
        start: SavedT,
        history: tuple[Record, ...],
        batches: Epochs[BatchT],
        kind: Kind[SavedT],
        out: Path,
    ) -> tuple[Record, ...]:
        """Trains and evaluates the epochs after `history`, each saved in `out` before the next begins.

        `start` is the requested training, without weights. Returns the whole history.
        """
        reported: set[str] = set()
        for number in range(len(history) + 1, start.recipe.epochs + 1):
            began = self.clock()
            loss, lr, unused = self.epoch(number, batches)
            record, unevaluated = self.evaluate(number, loss, lr, began)
            bad = [item for item in (*unused, *unevaluated) if item[0] not in reported]
            if bad:
                reported.update(name for name, _ in bad)
                self.context.callback.note(listed(self.skipped_images, bad))
            is_best = all(self.score(record) > self.score(earlier) for earlier in history)
            history = (*history, record)
            if self.context.group.is_first:
                current: SavedT = dataclasses.replace(
                    start, state_dict=self.weights(), history=history, training=self.state()
                )
                if is_best:  # before `last`: a kill in between repeats the epoch, and with it the best
                    kind.save(dataclasses.replace(current, training=None), out / kind.weights_file)
                kind.save(current, out / LAST)
                write_history(out, history)
            self.context.callback.epoch(record)
        return history

    def epoch(self, number: int, batches: Epochs[BatchT]) -> tuple[float, float, Skipped]:
        """One pass: mean loss, last learning rate, images that could not be used.

        Raises TrainingFailed when the loss is not finite, FileFormatError when no image can be used.
        """
        group = self.context.group
        self.network.train()
        sync_every = 1 if self.device == "cpu" else self.gpu_sync_every
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
                if not images and group.size == 1:
                    continue
                totals += self.update(batch)
                seen += images
                if step % sync_every == 0 or step == self.steps:
                    mean = float(totals[0] / totals[1].clamp(min=1))
                    if not math.isfinite(mean):
                        raise TrainingFailed.because(number, "training loss", mean)
                    self.context.callback.step(
                        Progress.after(
                            step,
                            steps=self.steps,
                            epoch=number,
                            epochs=self._recipe.epochs,
                            loss=mean,
                            images=seen * group.size,
                            seconds=self.clock() - began,
                        )
                    )
        loss, steps_done = group.sum(totals).tolist()
        if not steps_done:
            raise FileFormatError(self.none_usable(unreadable))
        group.average_statistics(self.network)
        if self.average is not None:
            group.average_statistics(self.evaluated)
        return loss / steps_done, lr, tuple(group.gathered(unreadable))

    def update(self, batch: BatchT) -> Tensor:
        """Forward, backward, one update of the weights; (loss, 1), or zeros without usable images."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(2, device=self.device)
        if self.usable(batch):
            loss = self.backward(batch)
            total = torch.stack([loss, torch.ones_like(loss)])
        self.context.group.average_gradients(self.network)
        if self._recipe.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, step=self.updates)
        return total

    def state(self) -> TrainingState:
        """What a resumed training needs besides the weights to use."""
        return TrainingState(
            model=dict(self.network.state_dict()),
            optimizer=self.optimizer.state_dict(),
            updates=self.updates,
            scaler=self.scaler.state_dict(),
            average={} if self.average is None else dict(self.evaluated.state_dict()),
        )

    def restore(self, saved: SavedT) -> None:
        """Goes on from a checkpoint of this training.

        Raises FileFormatError for a checkpoint without training state, or of another network.
        """
        state: TrainingState | None = saved.training
        if state is None:
            raise FileFormatError(f"{saved.path}: this checkpoint holds no optimiser, it cannot be resumed")
        try:
            self.network.load_state_dict(state.model)
            if self.average is not None:
                self.evaluated.load_state_dict(state.average)
            self.optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, ValueError) as error:
            raise FileFormatError(f"{saved.path}: the state is of another network: {error}") from None
        self.scaler.load_state_dict(state.scaler)
        self.updates = state.updates


# --- classifier ------------------------------------------------------------------------------


class ClassifierTrainer(Trainer[nn.Module, Batch, Checkpoint, EpochRecord]):
    """Trains by the recipe's loss on mixed images, and by a teacher's answers."""

    gpu_sync_every = 50
    skipped_images = "unreadable images left out"

    def __init__(
        self,
        start: Checkpoint,
        steps: int,
        evaluation: Batches,
        context: Context,
        *,
        builder: Callable[[ArchSpec], nn.Module],
        teacher: Teacher | None = None,
        initialise: Callable[[nn.Module], None] | None = None,
    ) -> None:
        recipe, arch = start.recipe, start.arch
        mixing, losses = (plugins.require(f"timm.{part}", extra="torch") for part in ("data", "loss"))
        self.recipe, self.teacher, self.evaluation = recipe, teacher, evaluation
        with isolated(recipe.seed, "weights"):
            network = builder(arch)
            if initialise is not None:
                initialise(network)
            if teacher is not None:
                distillation.give_second_head(network)
        network = network.to(context.device).to(memory_format=torch.channels_last)
        super().__init__(network, recipe, steps, context)
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

    def none_usable(self, unreadable: Skipped) -> str:
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

    def evaluate(self, number: int, loss: float, lr: float, began: float) -> tuple[EpochRecord, Skipped]:
        """Top-1 and top-5 on the evaluation images, in float32."""
        found = evaluate(self.evaluated, self.evaluation, device=self.device, clock=self.clock)
        if not math.isfinite(found.loss):
            raise TrainingFailed.because(number, "evaluation loss", found.loss)
        record = EpochRecord(number, loss, found.top1_percent, found.top5_percent, lr, self.clock() - began)
        return record, found.unreadable

    def score(self, record: EpochRecord) -> float:
        """Top-1."""
        return record.top1_percent

    def weights(self) -> dict[str, Tensor]:
        """Those of the architecture: the two heads of a distilled network become one."""
        return distillation.merged(super().weights())
