"""Dense tasks: an architecture as the backbone of a detector or a segmentation network.

Importing this loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

if TYPE_CHECKING:
    from hwnas.dense.backbone import Backbone, Pyramid
    from hwnas.dense.checkpoint import DenseCheckpoint, load
    from hwnas.dense.networks import build_dense
    from hwnas.dense.recipe import DenseRecipe, read_recipe, recipe_names
    from hwnas.dense.trainer import train

__all__ = [
    "Backbone",
    "DenseCheckpoint",
    "DenseRecipe",
    "Pyramid",
    "build_dense",
    "load",
    "read_recipe",
    "recipe_names",
    "train",
]

_HOMES = {
    "Backbone": "backbone",
    "DenseCheckpoint": "checkpoint",
    "DenseRecipe": "recipe",
    "Pyramid": "backbone",
    "build_dense": "networks",
    "load": "checkpoint",
    "read_recipe": "recipe",
    "recipe_names": "recipe",
    "train": "trainer",
}

__getattr__ = plugins.lazy_names(
    __name__, _HOMES, needs=("torch", "torchvision", "timm", "safetensors"), extra="torch", light=("recipe",)
)
