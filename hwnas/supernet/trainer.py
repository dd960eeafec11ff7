"""Trainer: shared weights, optimiser and schedule, and one epoch of the sandwich rule."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hwnas.data.pixels import Pixels
from hwnas.data.randomness import derived_seed
from hwnas.errors import FileFormatError
from hwnas.space import ArchSpec
from hwnas.supernet.checkpoint import Checkpoint
from hwnas.supernet.networks import Networks
from hwnas.supernet.resizing import resized
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.settings import Settings
from hwnas.supernet.weights import SharedWeights
from hwnas.train.callbacks import Observer, Progress, TrainingFailed
from hwnas.train.checkpoint import TrainingState
from hwnas.train.optim import make_schedule, matrix_precision

__all__ = ["Trainer"]


class Trainer:
    """What an epoch changes: the shared weights, the optimiser, the schedule, loss scaling."""

    def __init__(
        self,
        weights: SharedWeights,
        sandwich: Sandwich,
        settings: Settings,
        pixels: Pixels,
        observer: Observer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.weights, self.sandwich, self.settings = weights, sandwich, settings
        self.observer, self.clock = observer, clock
        self.device = weights.device.type
        self.pixels = pixels.to(self.device)
        self.steps = max(1, len(pixels) // min(settings.batch_size, len(pixels)))
        self.networks = Networks(weights, lasting=sandwich.lasting, compile=settings.compile)
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
                self.observer.step(
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
