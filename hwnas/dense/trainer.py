"""DenseTrainer: a detector or a segmentation network, its losses, and what is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hwnas.data.randomness import isolated
from hwnas.dense.checkpoint import DenseCheckpoint, DenseRecord
from hwnas.dense.data import DenseBatch, DenseBatches
from hwnas.dense.evaluation import evaluate
from hwnas.dense.networks import DenseNetwork, build_dense
from hwnas.dense.scores import LEADING
from hwnas.train.callbacks import Observer
from hwnas.train.distributed import Group
from hwnas.train.trainer import Updates

__all__ = ["DenseTrainer"]


class DenseTrainer(Updates[DenseNetwork, DenseBatch]):
    """Updates by the sum of torchvision's losses for the task."""

    def __init__(
        self,
        start: DenseCheckpoint,
        steps: int,
        device: str,
        clock: Callable[[], float],
        observer: Observer,
        group: Group,
        initialise: Callable[[DenseNetwork], None] | None = None,
    ) -> None:
        recipe = start.recipe
        self.task, self.classes = start.task, len(start.classes_names)
        with isolated(recipe.seed, "weights"):
            network = build_dense(start.arch, start.task, self.classes, recipe)
            if initialise is not None:
                initialise(network)
        super().__init__(network.to(device), recipe, steps, device, clock, observer, group)

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

    def none_usable(self, unreadable: Sequence[tuple[str, str]]) -> str:
        """Names the first one, and its reason."""
        name, reason = unreadable[0]
        return f"none of the {len(unreadable)} training images can be used, '{name}' first: {reason}"

    def judge(
        self, number: int, loss: float, lr: float, batches: DenseBatches, began: float
    ) -> tuple[DenseRecord, tuple[tuple[str, str], ...]]:
        """The scores of the judged network, in float32; and what could not be judged on."""
        found = evaluate(self.judged, batches, self.task, self.classes, device=self.device, clock=self.clock)
        return DenseRecord(number, loss, found.scores, lr, self.clock() - began), tuple(found.unreadable)

    def score(self, record: DenseRecord) -> float:
        """The task's leading score."""
        return record.scores[LEADING[self.task]]

    def checkpoint(self, start: DenseCheckpoint, history: tuple[DenseRecord, ...]) -> DenseCheckpoint:
        """The state after the last record of `history`."""
        weights = dict(self.judged.state_dict())
        return dataclasses.replace(start, state_dict=weights, history=history, training=self.state())
