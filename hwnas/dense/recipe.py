"""DenseRecipe: how a detector or a segmentation network is trained, as data. YAML in and out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwnas.train import recipe as fields
from hwnas.train.recipe import FlatRecipe

__all__ = ["DenseRecipe", "read_recipe", "recipe_names"]


@dataclass(frozen=True, slots=True)
class DenseRecipe(FlatRecipe):
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

    def problems(self) -> Iterator[str]:
        """A sentence for each broken rule of what only dense tasks' recipes have."""
        yield from fields.outside(
            self,
            {
                "image_size": (16, 2048),
                "longest_side": (16, 8192),
                "scale_jitter": (0, 0.9),
                "pyramid_width": (8, 4096),
                "anchor_scale": (0.5, 64),
            },
        )
        if self.pyramid_width % 8:
            yield f"pyramid_width: must be divisible by 8, got {self.pyramid_width}"
        if self.image_size > self.longest_side:
            yield (
                f"image_size: must be at most longest_side, got image_size={self.image_size} and "
                f"longest_side={self.longest_side}"
            )


def recipe_names() -> tuple[str, ...]:
    """The recipes for dense tasks that come with hwnas."""
    return fields.shipped(_folder())


def read_recipe(name_or_path: str) -> DenseRecipe:
    """A recipe by its name or from a YAML file; raises UsageError when there is none such."""
    return DenseRecipe.from_yaml(fields.named_text(name_or_path, _folder()), source=name_or_path)


def _folder() -> Path:
    return Path(__file__).parent / "recipes"
