"""Recipe: how a network is trained, as data. YAML in and out, checked at the edge.

What the network is belongs to the ArchSpec, which images it sees to the data folder; everything
else that decides the outcome of a training is here, and so inside every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import yaml_io
from hwnas.errors import UsageError
from hwnas.train import fields

__all__ = ["Recipe", "read_recipe", "recipe_names"]

PRECISIONS = ("mixed", "bf16", "fp32")
OPTIMIZERS = ("adamw", "lion", "nadamw", "sgd")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. Construction raises UsageError with every broken rule, a line each."""

    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images an update of the weights sees."""
    lr: float
    """Peak learning rate for a batch of `lr_batch_size` images."""
    lr_batch_size: int = 512
    """The peak learning rate is `lr * batch_size / lr_batch_size`."""
    min_lr: float = 1e-5
    """Learning rate that the cosine ends at."""
    warmup_epochs: float = 5.0
    """Epochs of linear warm-up."""
    warmup_lr: float = 1e-6
    """Learning rate that the warm-up starts from."""
    weight_decay: float = 0.025
    """Decoupled weight decay of matrices and kernels; biases, norms and attention biases have none."""
    clip_grad_norm: float = 0.0
    """The gradient's norm is cut to this; 0 leaves it."""
    mixup_alpha: float = 0.0
    """Parameter of mixup's Beta distribution; 0 is without."""
    cutmix_alpha: float = 0.0
    """Parameter of CutMix's Beta distribution; 0 is without. With mixup on too, each has half the batches."""
    label_smoothing: float = 0.0
    """Probability mass spread over all classes."""
    random_erasing: float = 0.0
    """Probability that a rectangle of an image is erased."""
    auto_augment: str = ""
    """timm's policy string, for example `rand-m9-mstd0.5-inc1`; empty is without."""
    color_jitter: float = 0.0
    """Strength of brightness, contrast and saturation jitter; timm leaves it out with auto_augment."""
    crop_scale_min: float = 0.08
    """A random crop covers from this share of the image to all of it."""
    horizontal_flip: float = 0.5
    """Probability of a mirrored image."""
    eval_crop: float = 0.875
    """Side of the centre crop over the side that evaluation resizes to."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights per update, reached gradually; 0 keeps none."""
    image_size: int = 0
    """Side of the images in pixels; 0 takes the architecture's resolution."""
    stem_stride: int = 0
    """Image side over feature-map side after the stem; 0 takes the architecture's."""
    precision: str = "mixed"
    """`mixed`: bfloat16 (or float16) matrix work on a GPU, float32 on a CPU. `bf16`: bfloat16 matrix
    work on a CPU, too. `fp32`: float32 everywhere."""
    optimizer: str = "adamw"
    """timm's name of the optimiser: adamw, lion, nadamw or sgd (with momentum 0.9)."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, where the whole does not fit into memory.
    The update is of the whole batch; BatchNorm sees a part at a time."""
    compile: bool = False
    """Whether torch.compile turns the network into code of its own, which takes a minute at the start."""
    teacher: str = ""
    """Whose answers are learnt beside the labels: a checkpoint of hwnas, `timm:NAME` or
    `timm:NAME:FILE.safetensors`; empty is without. See `hwnas.train.teacher`."""
    teacher_share: float = 0.5
    """Share of the teacher's answers in the loss; the labels have the rest."""
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
        """Plain data with every field, so that a later change of a default changes no recipe."""
        return fields.to_plain(self)

    def to_yaml(self) -> str:
        """The text of a recipe file."""
        return yaml_io.dump(self.to_dict())

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> Recipe:
        """The recipe in plain data; raises UsageError with a line for each mistake and its field."""
        return fields.from_plain(cls, data, source=source)

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "recipe") -> Recipe:
        """The recipe in the text of a file; raises UsageError as `from_dict` does."""
        return fields.from_text(cls, text, source=source)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with hwnas."""
    return fields.shipped(_folder())


def read_recipe(name_or_path: str) -> Recipe:
    """A recipe by its name or from a YAML file; raises UsageError when there is none such."""
    return Recipe.from_yaml(fields.named_text(name_or_path, _folder()), source=name_or_path)


def _folder() -> Path:
    return Path(__file__).parent / "recipes"


def _problems(recipe: Recipe) -> Iterator[str]:
    limits: dict[str, tuple[float, float]] = {
        "epochs": (1, 100_000),
        "batch_size": (2, 1_000_000),  # BatchNorm has no statistics over one image
        "lr_batch_size": (1, 1_000_000),
        "min_lr": (0, 1e3),
        "warmup_lr": (0, 1e3),
        "warmup_epochs": (0, 100_000),
        "weight_decay": (0, 10),
        "clip_grad_norm": (0, 1e6),
        "mixup_alpha": (0, 100),
        "cutmix_alpha": (0, 100),
        "random_erasing": (0, 1),
        "color_jitter": (0, 1),
        "horizontal_flip": (0, 1),
        "accumulate": (1, 1_000_000),
        "teacher_share": (0, 1),
        "image_size": (0, 2048),
        "seed": (0, 2**63 - 1),
        "workers": (-1, 1024),
    }
    yield from fields.outside(recipe, limits)
    if not (math.isfinite(recipe.lr) and 0 < recipe.lr <= 1e3):
        yield f"lr: must be above 0 and at most 1000, got {recipe.lr}"
    for name in ("label_smoothing", "ema_decay"):
        if not 0 <= getattr(recipe, name) < 1:
            yield f"{name}: must be at least 0 and below 1, got {getattr(recipe, name)}"
    for name in ("crop_scale_min", "eval_crop"):
        if not 0 < getattr(recipe, name) <= 1:
            yield f"{name}: must be above 0 and at most 1, got {getattr(recipe, name)}"
    if recipe.stem_stride not in (0, 2, 4, 8, 16):
        yield f"stem_stride: must be 0, 2, 4, 8 or 16, got {recipe.stem_stride}"
    if recipe.warmup_epochs > recipe.epochs:
        yield (
            f"warmup_epochs: must be at most epochs, got warmup_epochs={recipe.warmup_epochs:g} "
            f"and epochs={recipe.epochs}"
        )
    for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
        if getattr(recipe, name) not in known:
            yield f"{name}: must be one of {', '.join(known)}, got '{getattr(recipe, name)}'"
    if recipe.accumulate > 1 and recipe.batch_size < 2 * recipe.accumulate:
        yield (
            f"accumulate: each part of a batch must hold 2 images, got batch_size={recipe.batch_size} "
            f"and accumulate={recipe.accumulate}"
        )
