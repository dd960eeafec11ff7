"""`--log-to tensorboard:FOLDER`: event files for TensorBoard, one folder per training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas import plugins

ARGUMENT, EXAMPLE = "a folder", "tensorboard:logs"


class TensorBoard:
    """Writes scalars, and the recipe as text."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        package: Any = plugins.require("tensorboardX", extra="tensorboard")
        self._writer = package.SummaryWriter(str(folder))
        self._writer.add_text("recipe", f"```json\n{json.dumps(settings, indent=2, default=str)}\n```")

    def log(self, values: Mapping[str, float], update: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, update)

    def close(self, *, finished: bool) -> None:
        self._writer.close()


def logger(argument: str, name: str, settings: Mapping[str, Any]) -> TensorBoard:
    """Event files in FOLDER/NAME: `tensorboard --logdir FOLDER` shows several trainings together."""
    return TensorBoard(Path(argument) / name, settings)
