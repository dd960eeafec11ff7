"""DenseRecipe: how a detector or a segmentation network is trained, as data. YAML in and out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import yaml_io
from hwnas.errors import UsageError
from hwnas.train import fields
from hwnas.train.recipe import OPTIMIZERS, PRECISIONS

__all__ = ["DenseRecipe", "read_recipe", "recipe_names"]


@dataclass(frozen=True, slots=True)
class DenseRecipe:
    """How to train. Construction raises UsageError with every broken rule, a line each."""

    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images an update of the weights sees."""
    lr: float
    """Peak learning rate for a batch of `lr_batch_size` images."""
    lr_batch_size: int = 16
    """The peak learning rate is `lr * batch_size / lr_batch_size`."""
    min_lr: float = 1e-6
    """Learning rate that the cosine ends at."""
    warmup_epochs: float = 0.1
    """Epochs of linear warm-up."""
    warmup_lr: float = 1e-6
    """Learning rate that the warm-up starts from."""
    weight_decay: float = 0.05
    """Decoupled weight decay of matrices and kernels; biases, norms and attention biases have none."""
    clip_grad_norm: float = 0.0
    """The gradient's norm is cut to this; 0 leaves it."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights per update, reached gradually; 0 keeps none."""
    image_size: int = 800
    """Shorter side of the images, in pixels; windows and their biases are made for it."""
    longest_side: int = 1333
    """An image whose longer side would be longer is made smaller."""
    scale_jitter: float = 0.0
    """In training, the shorter side varies by this share, in five steps: 0.2 is from 0.8 to 1.2."""
    horizontal_flip: float = 0.5
    """Probability of a mirrored image."""
    stem_stride: int = 0
    """Image side over feature-map side after the stem; 0 takes the architecture's."""
    pyramid_width: int = 256
    """Channels of the feature pyramid and of the heads."""
    anchor_scale: float = 4.0
    """Side of the smallest anchor of a map, in positions of that map; detection only."""
    freeze_norms: bool = False
    """Whether the backbone's BatchNorms keep the statistics that they start with: for batches of few
    images, with --init."""
    precision: str = "mixed"
    """`mixed`: bfloat16 (or float16) matrix work on a GPU, float32 on a CPU. `bf16`: bfloat16 on a CPU,
    too. `fp32`: float32 everywhere."""
    optimizer: str = "adamw"
    """timm's name of the optimiser: adamw, lion, nadamw or sgd (with momentum 0.9)."""
    seed: int = 0
    """Decides the initial weights, the order of the images and every augmentation."""
    workers: int = -1
    """Decoding processes; 0 decodes in the training process, -1 takes one per spare core, at most 8.
    Does not change the outcome."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise UsageError("\n".join(f"recipe: {problem}" for problem in problems))

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, for this batch size."""
        return self.lr * self.batch_size / self.lr_batch_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field."""
        return fields.to_plain(self)

    def to_yaml(self) -> str:
        """The text of a recipe file."""
        return yaml_io.dump(self.to_dict())

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> DenseRecipe:
        """The recipe in plain data; raises UsageError with a line for each mistake and its field."""
        return fields.from_plain(cls, data, source=source)

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "recipe") -> DenseRecipe:
        """The recipe in the text of a file; raises UsageError as `from_dict` does."""
        return fields.from_text(cls, text, source=source)


def recipe_names() -> tuple[str, ...]:
    """The recipes for dense tasks that come with hwnas."""
    return fields.shipped(_folder())


def read_recipe(name_or_path: str) -> DenseRecipe:
    """A recipe by its name or from a YAML file; raises UsageError when there is none such."""
    return DenseRecipe.from_yaml(fields.named_text(name_or_path, _folder()), source=name_or_path)


def _folder() -> Path:
    return Path(__file__).parent / "recipes"


def _problems(recipe: DenseRecipe) -> Iterator[str]:
    yield from fields.outside(
        recipe,
        {
            "epochs": (1, 100_000),
            "batch_size": (2, 1_000_000),  # BatchNorm over one image says little
            "lr_batch_size": (1, 1_000_000),
            "min_lr": (0, 1e3),
            "warmup_lr": (0, 1e3),
            "warmup_epochs": (0, 100_000),
            "weight_decay": (0, 10),
            "clip_grad_norm": (0, 1e6),
            "image_size": (16, 2048),
            "longest_side": (16, 8192),
            "scale_jitter": (0, 0.9),
            "horizontal_flip": (0, 1),
            "pyramid_width": (8, 4096),
            "anchor_scale": (0.5, 64),
            "seed": (0, 2**63 - 1),
            "workers": (-1, 1024),
        },
    )
    if not (math.isfinite(recipe.lr) and 0 < recipe.lr <= 1e3):
        yield f"lr: must be above 0 and at most 1000, got {recipe.lr}"
    if not 0 <= recipe.ema_decay < 1:
        yield f"ema_decay: must be at least 0 and below 1, got {recipe.ema_decay}"
    if recipe.stem_stride not in (0, 2, 4, 8, 16):
        yield f"stem_stride: must be 0, 2, 4, 8 or 16, got {recipe.stem_stride}"
    if recipe.pyramid_width % 8:
        yield f"pyramid_width: must be divisible by 8, got {recipe.pyramid_width}"
    for low, high in (("warmup_epochs", "epochs"), ("image_size", "longest_side")):
        if getattr(recipe, low) > getattr(recipe, high):
            yield (
                f"{low}: must be at most {high}, got {low}={getattr(recipe, low):g} and "
                f"{high}={getattr(recipe, high)}"
            )
    for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
        if getattr(recipe, name) not in known:
            yield f"{name}: must be one of {', '.join(known)}, got '{getattr(recipe, name)}'"
