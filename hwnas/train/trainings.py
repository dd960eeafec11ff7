"""trainings.jsonl: a line for each finished training, in the folder that the trainings lie in.

What was trained, under which condition (images, recipe, weights to start from), and how accurate it
got: what the accuracy estimator `learned` learns from. Lines are only ever added; of two trainings of
one network under one condition and seed, the later one counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io.jsonl import Kind, append_shared, read_log
from hwnas.space.arch import ArchSpec

__all__ = ["TABLE", "TRAININGS", "Condition", "Training", "read_trainings", "remember", "row_of"]

SCHEMA = 1  # 1: the first one
TABLE = "trainings.jsonl"
TRAININGS = Kind(
    "hwnas trainings",
    noun="a finished training",
    fix="Delete that line to go on without it",
    old_keys=("schema", "id", "top1_percent"),
)
NO_CONDITION = ("seed", "workers", "format")
"""Fields of a recipe that don't make it another one: only accuracies under one condition compare."""


@dataclass(frozen=True, slots=True)
class Condition:
    """All that an accuracy depends on beside network and seed."""

    key: str
    """8 hex digits, the same wherever images, recipe and start are."""
    label: str
    """For people: which images, how many epochs."""
    resolution: int | None
    """What every network was adapted to, in pixels; None: each kept its own."""
    stem_stride: int | None
    classes: int


@dataclass(frozen=True, slots=True)
class Training:
    """One finished training."""

    arch: ArchSpec
    """As trained."""
    condition: Condition
    seed: int
    top1_percent: float
    """After the last epoch."""


def row_of(document: Mapping[str, Any], *, init: str = "") -> dict[str, Any]:
    """The line for a training, from what its result.json holds and what it started from."""
    return {
        "schema": SCHEMA,
        "id": document["id"],
        "seed": document["seed"],
        "top1_percent": document["top1_percent"],
        "top1_by_epoch_percent": [epoch["top1_percent"] for epoch in document["history"]],
        "train_seconds": document["train_seconds"],
        "data": document["data"],
        "recipe": {name: value for name, value in document["recipe"].items() if name not in NO_CONDITION},
        "init": init,
        "arch": document["arch"],
    }


def remember(row: Mapping[str, Any], file: Path) -> None:
    """Adds the line to the table: whole, and on the disk when this returns.

    Several processes may do so at once. Raises HwnasError when the file cannot be written,
    FileFormatError when it is not a table of trainings.
    """
    append_shared(file, TRAININGS, [row])


def read_trainings(path: Path) -> tuple[Training, ...]:
    """The trainings of a table, or of the table in a folder, in the order in which they ended.

    Raises UsageError when there is none, FileFormatError when a line is not a training.
    """
    file = path / TABLE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"no table of trainings at {file}: each finished 'hwnas train' writes a line into {TABLE} in "
            "the folder that its own folder lies in"
        )
    found: dict[tuple[str, str, int], Training] = {}
    for number, row in read_log(file, TRAININGS).numbered():
        training = _training(row, f"{file}: line {number}")
        key = (training.condition.key, training.arch.id, training.seed)
        found.pop(key, None)
        found[key] = training
    return tuple(found.values())


def _training(row: Mapping[str, Any], source: str) -> Training:
    try:
        if row["schema"] > SCHEMA:
            raise FileFormatError(f"{source}: schema {row['schema']} is of a newer hwnas: upgrade to read it")
        arch = ArchSpec.from_dict(row["arch"], source=source)
        recipe, data = row["recipe"], row["data"]
        asked = json.dumps([data["digest"], recipe, row["init"]], sort_keys=True)
        condition = Condition(
            key=hashlib.sha256(asked.encode()).hexdigest()[:8],
            label=f"{data['name']}, {data['train_images']} images, {recipe['epochs']} epochs"
            + (f", from {row['init']}" if row["init"] else ""),
            resolution=recipe.get("image_size") or None,
            stem_stride=recipe.get("stem_stride") or None,
            classes=arch.classes,
        )
        top1_percent = float(row["top1_percent"])
        if not 0 <= top1_percent <= 100:
            raise ValueError(f"top1_percent must be from 0 to 100, got {top1_percent:g}")
        return Training(arch, condition, int(row["seed"]), top1_percent)
    except HwnasError as error:
        raise FileFormatError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{source}: not a finished training: {error!r}: delete the line") from None
