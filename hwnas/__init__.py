"""hwnas: the vision transformer that runs within your budget on your board.

    import hwnas

    run = hwnas.search(targets={"rpi4": "20ms"}, out="runs/a")
    model = hwnas.train(run.front[0], data="photos", recipe="small", run=run, out="trained")
    file = hwnas.export(model, "model.onnx")
    hwnas.measure([file], compare_with="cpu-x86")

Importing this loads nothing heavy: a name is imported when it is first used. `search`, `train`, `export`
and `measure` are functions and packages: `hwnas.search(...)`, and `from hwnas.search import Candidate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.api import ExportedModel as ExportedModel
    from hwnas.api import Front as Front
    from hwnas.api import Measurements as Measurements
    from hwnas.api import Plot as Plot
    from hwnas.api import Run as Run
    from hwnas.api import TrainedModel as TrainedModel
    from hwnas.api import build_table as build_table
    from hwnas.api import export as export
    from hwnas.api import load_model as load_model
    from hwnas.api import load_run as load_run
    from hwnas.api import measure as measure
    from hwnas.api import search as search
    from hwnas.api import train as train
    from hwnas.errors import HwnasError as HwnasError
    from hwnas.estimate import Estimate as Estimate
    from hwnas.predictors.latency import LatencyTable as LatencyTable
    from hwnas.predictors.latency import device_names as device_names
    from hwnas.space import ArchSpec as ArchSpec
    from hwnas.space import SearchSpace as SearchSpace
    from hwnas.space import preset as preset
    from hwnas.space import preset_names as preset_names

__all__ = [
    "ArchSpec",
    "Estimate",
    "ExportedModel",
    "Front",
    "HwnasError",
    "LatencyTable",
    "Measurements",
    "Plot",
    "Run",
    "SearchSpace",
    "TrainedModel",
    "build_table",
    "device_names",
    "export",
    "load_model",
    "load_run",
    "measure",
    "preset",
    "preset_names",
    "search",
    "train",
]

__version__ = "0.1.0"

_HOMES = {
    "ArchSpec": "space",
    "Estimate": "estimate",
    "ExportedModel": "api",
    "Front": "api",
    "HwnasError": "errors",
    "LatencyTable": "predictors.latency",
    "Measurements": "api",
    "Plot": "api",
    "Run": "api",
    "SearchSpace": "space",
    "TrainedModel": "api",
    "build_table": "api",
    "device_names": "predictors.latency",
    "load_model": "api",
    "load_run": "api",
    "preset": "space",
    "preset_names": "space",
}
_CALLABLE = ("export", "measure", "search", "train")
"""Packages that are called as the function of `hwnas.api` with their name."""


def __getattr__(name: str) -> Any:
    import importlib

    if name in _CALLABLE:
        return importlib.import_module(f"hwnas.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'hwnas' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hwnas.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
