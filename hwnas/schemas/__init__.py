"""JSON Schemas (draft 2020-12) of every `--json` document and of the files of a run directory.

`NAME.json` is the schema of the verb NAME, `table-check.json` that of `hwnas table check`, `error.json`
that of an error. `run.json` and the like are of files; `FILES` says which.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import UsageError, did_you_mean

__all__ = ["FILES", "load", "names"]

_HERE = Path(__file__).parent

FILES: Mapping[str, str] = {
    "run.yaml": "run",
    "candidates.jsonl": "candidate",
    "progress.jsonl": "epoch",
    "front.json": "search",
    "verification.json": "verification",
    "measurements.json": "measurements",
}
"""The schema of each file of a run directory; of a file of lines, that of each line after the first, which
has the schema `log`."""


def names() -> tuple[str, ...]:
    """The schemas there are, sorted."""
    return tuple(sorted(file.stem for file in _HERE.glob("*.json") if file.stem != "shared"))


def load(name: str) -> dict[str, Any]:
    """The schema of that name, complete in itself.

    >>> load("describe")["properties"]["latency_ms"]["description"]
    'Predicted, in ms. Only with --device.'

    Raises UsageError when there is none.
    """
    if name not in names():
        raise UsageError(f"no schema '{name}'.{did_you_mean(name, names())} Known: {', '.join(names())}")
    schema = _read(name)
    shared = _read("shared")["$defs"]
    used: dict[str, Any] = {}
    waiting = [schema]
    while waiting:  # what is referred to may refer to more
        for key in _references(waiting.pop()):
            if key not in used and key in shared:
                used[key] = shared[key]
                waiting.append(shared[key])
    return {**schema, "$defs": {**used, **schema.get("$defs", {})}}


def _read(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((_HERE / f"{name}.json").read_text(encoding="utf-8"))
    return read


def _references(part: Any) -> list[str]:
    """The names behind every `#/$defs/` in a part of a schema."""
    if isinstance(part, dict):
        own = [part["$ref"].removeprefix("#/$defs/")] if isinstance(part.get("$ref"), str) else []
        return own + [name for value in part.values() for name in _references(value)]
    return [name for value in part for name in _references(value)] if isinstance(part, list) else []
