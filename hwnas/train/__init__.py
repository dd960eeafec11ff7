"""Training: recipes, images, the loop, checkpoints and evaluation. Importing this loads no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.train.checkpoint import Checkpoint, load
    from hwnas.train.evaluation import evaluate
    from hwnas.train.loop import train
    from hwnas.train.recipe import Recipe, read_recipe, recipe_names

__all__ = ["Checkpoint", "Recipe", "evaluate", "load", "read_recipe", "recipe_names", "train"]

_HOMES = {
    "Checkpoint": "checkpoint",
    "Recipe": "recipe",
    "evaluate": "evaluation",
    "load": "checkpoint",
    "read_recipe": "recipe",
    "recipe_names": "recipe",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from hwnas import plugins

    for package in ("torch", "timm", "safetensors") if _HOMES[name] != "recipe" else ():
        plugins.require(package, extra="torch")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
