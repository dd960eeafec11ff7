"""Training: recipes, images, the loop, checkpoints and evaluation. Importing this loads no torch.

The package itself is callable: `hwnas.train(...)` is the function of the public API (`hwnas.api`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

if TYPE_CHECKING:
    from hwnas.train.checkpoint import Checkpoint, load
    from hwnas.train.evaluation import evaluate
    from hwnas.train.recipe import Recipe, read_recipe, recipe_names
    from hwnas.train.training import train

__all__ = ["Checkpoint", "Recipe", "evaluate", "load", "read_recipe", "recipe_names", "train"]

_HOMES = {
    "Checkpoint": "checkpoint",
    "Recipe": "recipe",
    "evaluate": "evaluation",
    "load": "checkpoint",
    "read_recipe": "recipe",
    "recipe_names": "recipe",
    "train": "training",
}

__getattr__ = plugins.lazy_names(
    __name__, _HOMES, needs=("torch", "timm", "safetensors"), extra="torch", light=("recipe",)
)
plugins.callable_package(__name__)
