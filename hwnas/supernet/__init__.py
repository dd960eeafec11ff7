"""Weight sharing: one set of weights, trained once, of which every network of a space has a part.

Importing this loads no torch.

    trained = train(space, data, settings, out)
    judge = Judge.load(out)
    judge.judged([arch, other])     # accuracy with the shared weights, BatchNorm recalibrated
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.judge import Judge
    from hwnas.supernet.loop import train
    from hwnas.supernet.settings import Settings
    from hwnas.supernet.start import find_start
    from hwnas.supernet.weights import SharedWeights

__all__ = ["Calibration", "Judge", "Settings", "SharedWeights", "find_start", "train"]

_HOMES = {
    "Calibration": "calibration",
    "Judge": "judge",
    "Settings": "settings",
    "SharedWeights": "weights",
    "find_start": "start",
    "train": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from hwnas import plugins

    for package in (
        ("torch", "timm", "safetensors") if _HOMES[name] not in ("settings", "calibration") else ()
    ):
        plugins.require(package, extra="torch")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
