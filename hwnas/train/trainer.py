"""Trainer: a classifier, its loss on mixed images and a teacher's answers, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from hwnas import plugins
from hwnas.space import ArchSpec
from hwnas.train import distillation
from hwnas.train.checkpoint import Checkpoint, EpochRecord
from hwnas.train.data import Batch, Batches
from hwnas.train.evaluation import evaluate
from hwnas.train.observer import Observer, TrainingFailed
from hwnas.train.processes import Group
from hwnas.train.randomness import isolated
from hwnas.train.recipe import Recipe
from hwnas.train.teacher import Teacher
from hwnas.train.updates import Updates

__all__ = ["Trainer"]


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
        observer: Observer,
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
        super().__init__(network, recipe, steps, device, clock, observer, group)
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
