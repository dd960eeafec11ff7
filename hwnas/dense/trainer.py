"""DenseTrainer: network, optimiser, schedule and moving average of a dense task, and one epoch of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from hwnas import plugins
from hwnas.dense.checkpoint import DenseCheckpoint, DenseRecord
from hwnas.dense.data import DenseBatches
from hwnas.dense.evaluation import DenseEvaluation, evaluate
from hwnas.dense.networks import DenseNetwork, build_dense
from hwnas.errors import FileFormatError
from hwnas.train.observer import Observer, Progress, TrainingFailed
from hwnas.train.optimisation import make_optimizer, make_schedule, matrix_precision
from hwnas.train.processes import Group
from hwnas.train.randomness import isolated
from hwnas.train.training_state import TrainingState

__all__ = ["DenseTrainer"]


class DenseTrainer:
    """What an epoch changes: network, optimiser, schedule, moving average, loss scaling."""

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
        averaging = plugins.require("timm.utils", extra="torch")
        recipe = start.recipe
        self.recipe, self.steps, self.device = recipe, steps, device
        self.clock, self.observer, self.group = clock, observer, group
        self.task, self.classes = start.task, len(start.classes_names)
        with isolated(recipe.seed, "weights"):
            network = build_dense(start.arch, start.task, self.classes, recipe)
            if initialise is not None:
                initialise(network)
        self.network = network.to(device)
        self.optimizer = make_optimizer(self.network, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, steps)
        self.average = (
            averaging.ModelEmaV3(self.network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        self.cast = matrix_precision(recipe.precision, device)
        self.scaler = torch.amp.GradScaler(device, enabled=self.cast is torch.float16)
        self.updates = 0

    @property
    def judged(self) -> DenseNetwork:
        """The network whose scores count: the moving average where there is one."""
        return self.network if self.average is None else cast(DenseNetwork, self.average.module)

    def epoch(self, number: int, batches: DenseBatches) -> tuple[float, float, tuple[tuple[str, str], ...]]:
        """One pass: mean loss, last learning rate, what could not be used.

        Raises TrainingFailed when the loss is not finite, FileFormatError when nothing can be decoded.
        """
        self.network.train()
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
                if not batch.images and self.group.size == 1:
                    continue
                totals += self._update(batch.images, batch.targets)
                seen += len(batch.images)
                mean = float(totals[0] / totals[1].clamp(min=1))
                if not math.isfinite(mean):
                    raise TrainingFailed.because(number, "training loss", mean)
                self._report(number, step, mean, seen, self.clock() - began)
        loss, steps_done = self.group.sum(totals).tolist()
        if not steps_done:
            raise FileFormatError(
                f"none of the {len(unreadable)} training images can be used, '{unreadable[0][0]}' first: "
                f"{unreadable[0][1]}"
            )
        self.group.average_statistics(self.network)
        if self.average is not None:
            self.group.average_statistics(self.judged)
        return loss / steps_done, lr, tuple(self.group.gathered(unreadable))

    def _update(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        """Forward, backward, one update of the weights; (loss, 1), or zeros without images."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(2, device=self.device)
        if images:
            images = [image.to(self.device, non_blocking=True) for image in images]
            moved: list[Mapping[str, Tensor]] = [
                {name: value.to(self.device, non_blocking=True) for name, value in target.items()}
                for target in targets
            ]
            with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
                losses: dict[str, Tensor] = self.network(images, moved)
            loss = torch.stack([value.float() for value in losses.values()]).sum()
            self.scaler.scale(loss).backward()
            total = torch.stack([loss.detach(), torch.ones_like(loss)])
        self.group.average_gradients(self.network)
        if self.recipe.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, step=self.updates)
        return total

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

    def evaluate(self, batches: DenseBatches) -> DenseEvaluation:
        """The scores of the judged network, in float32."""
        return evaluate(self.judged, batches, self.task, self.classes, device=self.device, clock=self.clock)

    def checkpoint(self, start: DenseCheckpoint, history: tuple[DenseRecord, ...]) -> DenseCheckpoint:
        """The state after the last record of `history`."""
        judged = dict(self.judged.state_dict())
        return dataclasses.replace(
            start,
            state_dict=judged,
            history=history,
            training=TrainingState(
                model=dict(self.network.state_dict()),
                optimizer=self.optimizer.state_dict(),
                updates=self.updates,
                scaler=self.scaler.state_dict(),
                average={} if self.average is None else judged,
            ),
        )

    def restore(self, saved: DenseCheckpoint) -> None:
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
