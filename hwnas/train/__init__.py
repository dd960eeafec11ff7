"""Training: recipes, images, the loop, checkpoints and evaluation. Importing this loads no torch."""

from __future__ import annotations

import importlib
from typing import Any

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
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
