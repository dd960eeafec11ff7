"""The public API. Use it as `import hwnas; hwnas.search(...)`: every name here is a name of `hwnas`.

Names and paths are `str` or `Path` everywhere. Times are texts with a unit ("20ms") or numbers of
milliseconds. Errors are those of `hwnas.errors`; nothing is printed. Importing this loads neither torch
nor onnxruntime nor pandas: a function imports what it uses.
"""

from hwnas.api.exporting import ExportedModel, export
from hwnas.api.measuring import Measurements, measure
from hwnas.api.searching import Front, Plot, Run, load_run, search
from hwnas.api.tables import build_table
from hwnas.api.training import TrainedModel, load_model, train

__all__ = [
    "ExportedModel",
    "Front",
    "Measurements",
    "Plot",
    "Run",
    "TrainedModel",
    "build_table",
    "export",
    "load_model",
    "load_run",
    "measure",
    "search",
    "train",
]
