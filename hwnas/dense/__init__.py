"""Dense tasks: an architecture as the backbone of a detector or a segmentation network.

Importing this loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.dense.backbone import Backbone, Pyramid
    from hwnas.dense.checkpoint import DenseCheckpoint, load
    from hwnas.dense.loop import train
    from hwnas.dense.networks import build_dense
    from hwnas.dense.recipe import DenseRecipe, read_recipe, recipe_names

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
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from hwnas import plugins

    for package in ("torch", "torchvision", "timm", "safetensors") if _HOMES[name] != "recipe" else ():
        plugins.require(package, extra="torch")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
