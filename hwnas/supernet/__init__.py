"""Weight sharing: one set of weights, trained once, of which every network of a space has a part.

Importing this loads no torch.

    trained = train(space, data, settings, out)
    judge = Judge.load(out)
    judge.judged([arch, other])     # accuracy with the shared weights, BatchNorm recalibrated
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

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

__getattr__ = plugins.lazy_names(
    __name__, _HOMES, needs=("torch", "timm", "safetensors"), extra="torch", light=("settings", "calibration")
)
