"""Callback: how a training reports its progress, and the records that it passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hwnas.errors import HwnasError

__all__ = ["Callback", "FinishedEpoch", "NullCallback", "Progress", "TrainingFailed", "listed"]


class TrainingFailed(HwnasError):
    """The loss is no longer a number; the epoch is not kept, and never becomes the best."""

    @classmethod
    def because(cls, epoch: int, what: str, value: float) -> TrainingFailed:
        """The error for a value that is not finite, with what to do about it."""
        return cls(
            f"the {what} of epoch {epoch} must be finite, got {value}: the epoch is not kept. "
            "Lower --lr, or set clip_grad_norm in the recipe, and start again in another folder"
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, within an epoch."""

    epoch: int
    """1 for the first."""
    epochs: int
    step: int
    """Finished updates of this epoch."""
    steps: int
    loss: float
    """Mean training loss of this epoch so far."""
    images_per_second: float
    """Of all processes together."""
    seconds_left: float
    """Estimate for the rest of the training, at the speed of this epoch."""

    @classmethod
    def after(
        cls, step: int, *, steps: int, epoch: int, epochs: int, loss: float, images: int, seconds: float
    ) -> Progress:
        """So far after `step` updates of an epoch, which saw so many images in so many seconds."""
        left = (epochs - epoch + 1) * steps - step
        return cls(
            epoch=epoch,
            epochs=epochs,
            step=step,
            steps=steps,
            loss=loss,
            images_per_second=images / seconds if seconds > 0 else 0.0,
            seconds_left=seconds / step * left,
        )


class FinishedEpoch(Protocol):
    """The record of one epoch, as far as every training has it."""

    @property
    def epoch(self) -> int:
        """1 for the first."""

    @property
    def loss(self) -> float:
        """Mean training loss."""

    @property
    def outcome(self) -> str:
        """The scores, as text for people."""

    @property
    def lr(self) -> float:
        """Learning rate of the last update."""

    @property
    def seconds(self) -> float:
        """Wall clock, evaluation included."""


class Callback(Protocol):
    """Receives the progress of a training, in the training process, of several in the first one."""

    def note(self, text: str) -> None:
        """A message for the user: an unreadable image, a fallback."""

    def step(self, progress: Progress) -> None:
        """An update is done."""

    def epoch(self, record: FinishedEpoch) -> None:
        """An epoch is done and its checkpoint written."""


class NullCallback:
    """Ignores everything; a base class for callbacks that need one method."""

    def note(self, text: str) -> None: ...
    def step(self, progress: Progress) -> None: ...
    def epoch(self, record: FinishedEpoch) -> None: ...


def listed(what: str, files: list[tuple[str, str]], shown: int = 5) -> str:
    """The first `shown` of (name, reason): '7 WHAT: name (reason); ...; and 2 more'."""
    some = "; ".join(f"{file} ({reason})" for file, reason in files[:shown])
    return f"{len(files)} {what}: {some}" + (f"; and {len(files) - shown} more" if len(files) > shown else "")
