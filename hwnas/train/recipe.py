"""Recipe: how a network is trained, as data. YAML in and out, checked at the edge.

What the network is belongs to the ArchSpec, which images it sees to the data folder; everything
else that decides the outcome of a training is here, and so inside every checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwnas.train import fields
from hwnas.train.flat_recipe import FlatRecipe

__all__ = ["Recipe", "read_recipe", "recipe_names"]


@dataclass(frozen=True, slots=True)
class Recipe(FlatRecipe):
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

    def problems(self) -> Iterator[str]:
        """A sentence for each broken rule of what only classifiers' recipes have."""
        yield from fields.outside(
            self,
            {
                "mixup_alpha": (0, 100),
                "cutmix_alpha": (0, 100),
                "random_erasing": (0, 1),
                "color_jitter": (0, 1),
                "accumulate": (1, 1_000_000),
                "teacher_share": (0, 1),
                "image_size": (0, 2048),
            },
        )
        if not 0 <= self.label_smoothing < 1:
            yield f"label_smoothing: must be at least 0 and below 1, got {self.label_smoothing}"
        for name in ("crop_scale_min", "eval_crop"):
            if not 0 < getattr(self, name) <= 1:
                yield f"{name}: must be above 0 and at most 1, got {getattr(self, name)}"
        if self.accumulate > 1 and self.batch_size < 2 * self.accumulate:
            yield (
                f"accumulate: each part of a batch must hold 2 images, got batch_size={self.batch_size} "
                f"and accumulate={self.accumulate}"
            )


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with hwnas."""
    return fields.shipped(_folder())


def read_recipe(name_or_path: str) -> Recipe:
    """A recipe by its name or from a YAML file; raises UsageError when there is none such."""
    return Recipe.from_yaml(fields.named_text(name_or_path, _folder()), source=name_or_path)


def _folder() -> Path:
    return Path(__file__).parent / "recipes"
