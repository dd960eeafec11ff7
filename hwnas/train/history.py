"""history.jsonl: the record of each epoch of a training. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole
from hwnas.io.files import read_bytes

__all__ = ["FILE", "read_history", "scores_of", "write_history"]

FILE = "history.jsonl"


def write_history(out: Path, history: Sequence[Any]) -> None:
    """history.jsonl, a line an epoch; `history` holds dataclasses."""
    lines = [json.dumps(dataclasses.asdict(record)) for record in history]
    write_whole(out / FILE, "\n".join(lines) + "\n")


def read_history(out: Path) -> list[dict[str, Any]]:
    """What `write_history` wrote, a mapping for each epoch; empty before the first one is done."""
    file = out / FILE
    if not file.exists():
        return []
    lines = read_bytes(file, max_bytes=json_io.MAX_BYTES).splitlines()
    return [json_io.parse(line, source=f"{file}: line {number}") for number, line in enumerate(lines, 1)]


def scores_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The scores in the record of an epoch: {"top1_percent": 91.2}, {"largest_percent reuse": 55.0}."""
    scores: dict[str, float] = {}
    for name, value in record.items():
        if name in ("epoch", "loss", "lr", "seconds"):
            continue
        if isinstance(value, Mapping):
            prefix = "" if name == "scores" else f"{name} "
            scores |= {f"{prefix}{key}": float(each) for key, each in value.items()}
        else:
            scores[name] = float(value)
    return scores
