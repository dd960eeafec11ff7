"""`--log-to wandb:PROJECT`: a run of a Weights & Biases project; WANDB_MODE=offline keeps it on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas import plugins

ARGUMENT, EXAMPLE = "a project, or ENTITY/PROJECT", "wandb:my-project"


class WeightsAndBiases:
    """Logs metrics; the recipe is the run's config."""

    def __init__(self, project: str, name: str, settings: Mapping[str, Any]) -> None:
        package: Any = plugins.require("wandb", extra="wandb")
        entity, _, own = project.rpartition("/")
        self._run = package.init(project=own, entity=entity or None, name=name, config=dict(settings))

    def log(self, values: Mapping[str, float], update: int) -> None:
        self._run.log(dict(values), step=update)

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def logger(argument: str, name: str, settings: Mapping[str, Any]) -> WeightsAndBiases:
    """A run called NAME in the project."""
    return WeightsAndBiases(argument, name, settings)
