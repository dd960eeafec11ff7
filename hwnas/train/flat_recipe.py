"""FlatRecipe: what recipes of every kind of training share. A file is a flat mapping, checked as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

from hwnas import yaml_io
from hwnas.errors import UsageError
from hwnas.train import fields

__all__ = ["OPTIMIZERS", "PRECISIONS", "FlatRecipe"]

PRECISIONS = ("mixed", "bf16", "fp32")
OPTIMIZERS = ("adamw", "lion", "nadamw", "sgd")

_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (2, 1_000_000),  # BatchNorm has no statistics over one image
    "lr_batch_size": (1, 1_000_000),
    "min_lr": (0, 1e3),
    "warmup_lr": (0, 1e3),
    "warmup_epochs": (0, 100_000),
    "weight_decay": (0, 10),
    "clip_grad_norm": (0, 1e6),
    "horizontal_flip": (0, 1),
    "seed": (0, 2**63 - 1),
    "workers": (-1, 1024),
}


class FlatRecipe:
    """The base of a frozen dataclass of int, float, str and bool that has at least the fields below.

    Construction raises UsageError with every broken rule, a line each.
    """

    __slots__ = ()

    # Declared for the type checker; the dataclasses define them, with defaults of their own.
    epochs: int
    batch_size: int
    lr: float
    lr_batch_size: int
    min_lr: float
    warmup_epochs: float
    warmup_lr: float
    weight_decay: float
    clip_grad_norm: float
    ema_decay: float
    horizontal_flip: float
    stem_stride: int
    precision: str
    optimizer: str
    seed: int
    workers: int

    def __post_init__(self) -> None:
        problems = [*self._shared_problems(), *self.problems()]
        if problems:
            raise UsageError("\n".join(f"recipe: {problem}" for problem in problems))

    def problems(self) -> Iterator[str]:
        """A sentence for each broken rule of the fields that only this kind of recipe has."""
        raise NotImplementedError

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, for this batch size."""
        return self.lr * self.batch_size / self.lr_batch_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field, so that a later change of a default changes no recipe."""
        return fields.to_plain(self)

    def to_yaml(self) -> str:
        """The text of a recipe file."""
        return yaml_io.dump(self.to_dict())

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> Self:
        """The recipe in plain data; raises UsageError with a line for each mistake and its field."""
        return fields.from_plain(cls, data, source=source)

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "recipe") -> Self:
        """The recipe in the text of a file; raises UsageError as `from_dict` does."""
        return fields.from_text(cls, text, source=source)

    def _shared_problems(self) -> Iterator[str]:
        yield from fields.outside(self, _LIMITS)
        if not (math.isfinite(self.lr) and 0 < self.lr <= 1e3):
            yield f"lr: must be above 0 and at most 1000, got {self.lr}"
        if not 0 <= self.ema_decay < 1:
            yield f"ema_decay: must be at least 0 and below 1, got {self.ema_decay}"
        if self.stem_stride not in (0, 2, 4, 8, 16):
            yield f"stem_stride: must be 0, 2, 4, 8 or 16, got {self.stem_stride}"
        if self.warmup_epochs > self.epochs:
            yield (
                f"warmup_epochs: must be at most epochs, got warmup_epochs={self.warmup_epochs:g} "
                f"and epochs={self.epochs}"
            )
        for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                yield f"{name}: must be one of {', '.join(known)}, got '{getattr(self, name)}'"
