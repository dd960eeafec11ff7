"""Updates: one epoch after the other, of whatever network and loss - schedule, moving average, scaling."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from hwnas import plugins
from hwnas.errors import FileFormatError
from hwnas.train.flat_recipe import FlatRecipe
from hwnas.train.observer import Observer, Progress, TrainingFailed
from hwnas.train.optimisation import make_optimizer, make_schedule, matrix_precision
from hwnas.train.processes import Group
from hwnas.train.randomness import isolated
from hwnas.train.training_state import TrainingState

__all__ = ["Epochs", "Readable", "Updates"]


class Readable(Protocol):
    """A batch: what could be read of it, and what could not."""

    @property
    def unreadable(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of each image that is left out."""
        ...


Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch", bound=Readable)
Batch_co = TypeVar("Batch_co", bound=Readable, covariant=True)


class Epochs(Protocol[Batch_co]):
    """Batches, anew for each epoch."""

    def epoch(self, number: int) -> Iterator[Batch_co]:
        """The batches of one pass."""
        ...


class Updates(ABC, Generic[Network, Batch]):
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
        observer: Observer,
        group: Group,
    ) -> None:
        """`network` lies on `device` and has its first weights; `steps` updates are an epoch."""
        averaging = plugins.require("timm.utils", extra="torch")
        self.network, self.steps, self.device = network, steps, device
        self.clock, self.observer, self.group = clock, observer, group
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
    def usable(self, batch: Batch) -> int:
        """Images of the batch that an update sees; it is left out without any."""

    @abstractmethod
    def backward(self, batch: Batch) -> Tensor:
        """Adds the gradients of the mean loss over `usable` images, scaled; the loss, detached."""

    @abstractmethod
    def none_usable(self, unreadable: Sequence[tuple[str, str]]) -> str:
        """What to say when an epoch had no image to train on: (name, reason) of each."""

    @property
    def judged(self) -> Network:
        """The network whose scores count: the moving average where there is one."""
        return self.network if self.average is None else cast(Network, self.average.module)

    def epoch(self, number: int, batches: Epochs[Batch]) -> tuple[float, float, tuple[tuple[str, str], ...]]:
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
                    self.observer.step(
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

    def _update(self, batch: Batch) -> Tensor:
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
