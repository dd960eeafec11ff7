"""Trainer: network, optimiser, schedule and moving average, and one epoch of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from hwnas import plugins
from hwnas.errors import FileFormatError
from hwnas.space import ArchSpec
from hwnas.train import distillation
from hwnas.train.checkpoint import Checkpoint, EpochRecord, TrainingState
from hwnas.train.data import Batches
from hwnas.train.evaluation import Evaluation, evaluate
from hwnas.train.observer import Observer, Progress, TrainingFailed
from hwnas.train.optimisation import make_optimizer, make_schedule, matrix_precision
from hwnas.train.processes import Group
from hwnas.train.randomness import isolated
from hwnas.train.recipe import Recipe
from hwnas.train.teacher import Teacher

__all__ = ["Trainer"]


class Trainer:
    """What an epoch changes: network, optimiser, schedule, moving average, loss scaling."""

    def __init__(
        self,
        arch: ArchSpec,
        recipe: Recipe,
        steps: int,
        device: str,
        builder: Callable[[ArchSpec], nn.Module],
        clock: Callable[[], float],
        observer: Observer,
        group: Group,
        teacher: Teacher | None,
        initialise: Callable[[nn.Module], None] | None = None,
    ) -> None:
        mixing, losses, averaging = (
            plugins.require(f"timm.{part}", extra="torch") for part in ("data", "loss", "utils")
        )
        self.recipe, self.steps, self.device = recipe, steps, device
        self.clock, self.observer, self.group = clock, observer, group
        self.teacher = teacher
        with isolated(recipe.seed, "weights"):
            network = builder(arch)
            if initialise is not None:
                initialise(network)
            if teacher is not None:
                distillation.give_second_head(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.forward: Callable[[torch.Tensor], torch.Tensor] = (
            cast(Any, torch.compile(self.network)) if recipe.compile else self.network
        )
        self.optimizer = make_optimizer(self.network, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, steps)
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
        self.average = (
            averaging.ModelEmaV3(self.network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        self.cast = matrix_precision(recipe.precision, device)
        self.scaler = torch.amp.GradScaler(device, enabled=self.cast is torch.float16)
        self.updates = 0

    @property
    def judged(self) -> nn.Module:
        """The network whose accuracy counts: the moving average where there is one."""
        return self.network if self.average is None else cast(nn.Module, self.average.module)

    def epoch(self, number: int, batches: Batches) -> tuple[float, float, tuple[tuple[str, str], ...]]:
        """One pass: mean loss, last learning rate, what could not be decoded.

        Raises TrainingFailed when the loss is not finite, FileFormatError when nothing can be decoded.
        """
        self.network.train()
        check_every = 1 if self.device == "cpu" else 50  # asking a GPU for its loss makes it wait
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, steps
        seen, began = 0, self.clock()
        unreadable: list[tuple[str, str]] = []
        lr = 0.0
        self.updates = (number - 1) * self.steps
        with isolated(self.recipe.seed, "epoch", number):
            for step, batch in enumerate(batches.epoch(number), start=1):
                unreadable += batch.unreadable
                self.schedule.step_update(self.updates)
                lr = float(self.optimizer.param_groups[0]["lr"])
                self.updates += 1
                even = len(batch.labels) - len(batch.labels) % 2  # timm's Mixup pairs the images
                if even < 2 and self.group.size == 1:
                    continue
                totals += self._update(batch.images[:even], batch.labels[:even])
                seen += even
                if step % check_every == 0 or step == self.steps:
                    mean = float(totals[0] / totals[1].clamp(min=1))
                    if not math.isfinite(mean):
                        raise TrainingFailed.because(number, "training loss", mean)
                    self._report(number, step, mean, seen, self.clock() - began)
        loss, steps_done = self.group.sum(totals).tolist()
        if not steps_done:
            raise FileFormatError(
                f"none of the {len(unreadable)} training images could be decoded, '{unreadable[0][0]}' first"
            )
        self.group.average_statistics(self.network)
        if self.average is not None:
            self.group.average_statistics(self.judged)
        return loss / steps_done, lr, tuple(self.group.gathered(unreadable))

    def _update(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Forward, backward, one update of the weights; (loss, 1), or zeros without images."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(2, device=self.device)
        if len(labels):
            images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            targets = labels.to(self.device, non_blocking=True)
            if self.mix is not None:
                images, targets = self.mix(images, targets)
            parts = min(self.recipe.accumulate, len(labels) // 2)
            for some, wanted in zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True):
                loss = self._loss(some, wanted) * (len(some) / len(images))
                self.scaler.scale(loss).backward()
                total[0] += loss.detach()
            total[1] = 1
        self.group.average_gradients(self.network)
        if self.recipe.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, step=self.updates)
        return total

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
            logits = self.forward(images)
            answers = None if self.teacher is None else self.teacher(images)
        if answers is None:
            loss: torch.Tensor = self.criterion(logits.float(), targets)
            return loss
        return distillation.loss(logits.float(), targets, answers, self.criterion, self.recipe.teacher_share)

    def _report(self, number: int, step: int, loss: float, seen: int, seconds: float) -> None:
        left = (self.recipe.epochs - number + 1) * self.steps - step
        self.observer.step(
            Progress(
                epoch=number,
                epochs=self.recipe.epochs,
                step=step,
                steps=self.steps,
                loss=loss,
                images_per_second=seen * self.group.size / seconds if seconds > 0 else 0.0,
                seconds_left=seconds / step * left,
            )
        )

    def evaluate(self, batches: Batches) -> Evaluation:
        """The accuracy of the judged network, in float32."""
        return evaluate(self.judged, batches, device=self.device, clock=self.clock)

    def checkpoint(self, start: Checkpoint, history: tuple[EpochRecord, ...]) -> Checkpoint:
        """The state after the last record of `history`."""
        judged = dict(self.judged.state_dict())
        return dataclasses.replace(
            start,
            state_dict=distillation.merged(judged),
            history=history,
            training=TrainingState(
                model=dict(self.network.state_dict()),
                optimizer=self.optimizer.state_dict(),
                updates=self.updates,
                scaler=self.scaler.state_dict(),
                average={} if self.average is None else judged,
            ),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of this very training."""
        state = saved.training
        if state is None:
            raise FileFormatError(f"{saved.path}: this checkpoint holds no optimiser, it cannot be resumed")
        self.network.load_state_dict(state.model)
        if self.average is not None:
            self.judged.load_state_dict(state.average)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        self.updates = state.updates
