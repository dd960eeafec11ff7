"""The model card of an exported detector or segmentation network; read and written as a classifier's."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwnas import __version__, plugins
from hwnas.dense.checkpoint import DenseCheckpoint
from hwnas.export.dense import DenseComparison, DenseDeployable
from hwnas.export.dense_cost import DenseCost
from hwnas.export.metadata import FileMetadata
from hwnas.export.model_card import SCHEMA, file_interface

__all__ = ["dense_card"]


def dense_card(
    trained: DenseCheckpoint,
    made: DenseDeployable,
    files: Sequence[Path],
    *,
    metadata: FileMetadata,
    cost: DenseCost,
    comparison: DenseComparison | None,
    calibration: str | None,
) -> dict[str, Any]:
    """The card as plain data."""
    last = trained.history[-1] if trained.history else None
    return {
        "schema": SCHEMA,
        "kind": "model card",
        "task": trained.task,
        "name": metadata.name,
        "id": trained.arch.id,
        "weights": "trained",
        "files": [file.name for file in files],
        "format": made.model.model_format,
        "precision": made.model.precision,
        "size_bytes": made.model.size_bytes,
        **file_interface(metadata),
        "params": cost.backbone_params + cost.head_params,
        "macs": cost.backbone_macs + cost.head_macs,
        "parts": {
            "backbone": {"params": cost.backbone_params, "macs": cost.backbone_macs},
            "head": {"params": cost.head_params, "macs": cost.head_macs},
        },
        "parity": {
            "max_abs": made.model.parity_max_abs,
            "tolerance": made.model.parity_tolerance,
            "relative": True,
        },
        "accuracy": {
            "in_training": None
            if last is None
            else {"epoch": last.epoch, "scores_percent": dict(last.scores)},
            "exported": None if comparison is None else dataclasses.asdict(comparison),
        },
        "latency": {"predicted": [dict(row) for row in metadata.predicted], "measured": None},
        "recipe": trained.recipe.to_dict(),
        "data": dict(trained.data) if trained.data else None,
        "calibration": calibration,
        "versions": {
            "hwnas": __version__,
            "python": platform.python_version(),
            **{
                package: str(plugins.require(package, extra="torch").__version__)
                for package in ("torch", "torchvision", "onnx")
            },
        },
        "arch": trained.arch.to_dict(),
    }
