"""Weight sharing: one set of weights, trained once, of which every network of a space has a part.

Importing this loads no torch.

    trained = train(space, data, settings, out)
    evaluator = SubnetEvaluator.load(out)
    evaluator.evaluate([arch, other])     # accuracy with the shared weights, BatchNorm recalibrated
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

if TYPE_CHECKING:
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.evaluator import SubnetEvaluator, find_start
    from hwnas.supernet.settings import Settings
    from hwnas.supernet.trainer import train
    from hwnas.supernet.weights import SharedWeights

__all__ = ["Calibration", "Settings", "SharedWeights", "SubnetEvaluator", "find_start", "train"]

_HOMES = {
    "Calibration": "calibration",
    "SubnetEvaluator": "evaluator",
    "Settings": "settings",
    "SharedWeights": "weights",
    "find_start": "evaluator",
    "train": "trainer",
}

__getattr__ = plugins.lazy_names(
    __name__, _HOMES, needs=("torch", "timm", "safetensors"), extra="torch", light=("settings", "calibration")
)
