"""The samples file of a table build: the raw times of each cell, as it was measured.

Its first line says what the build measures and how, so that samples of two builds never mix.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hwnas.errors import HwnasError, UsageError
from hwnas.io.jsonl import Contents, Kind, Log, read_log
from hwnas.io.lock import Busy, beside, locked

__all__ = ["SAMPLES", "Journal", "read_samples"]

SAMPLES = Kind(
    "hwnas latency samples",
    noun="a measured cell",
    fix="Remove the file to measure everything again",
    version=4,
    oldest=2,
)
"""1 had no reference network; 2 had no checksums; 2 and 3 call the reference network the companion."""
_OLD_NAMES = {"companion_ms": "reference_ms", "companion_ns": "reference_ns"}


def read_samples(path: Path) -> Contents:
    """The samples of a build and what it measured (`of`); raises FileFormatError."""
    contents = read_log(path, SAMPLES)
    rows = [{_OLD_NAMES.get(name, name): value for name, value in row.items()} for row in contents.rows]
    return dataclasses.replace(contents, rows=rows)


class Journal:
    """The samples of one build, open for appending; one process at a time."""

    def __init__(self, path: Path, question: Mapping[str, Any], *, resume: bool) -> None:
        """Opens the file, or starts it.

        Raises UsageError when an unfinished build is there and `resume` is not given, or when its
        settings differ; FileFormatError when the file is foreign or damaged; HwnasError when
        another process writes it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(locked(beside(path)))
            except Busy:
                raise HwnasError(f"{path}: another build is writing it; wait for it, or end it") from None
            known = read_samples(path)
            if known.of is not None:
                _check(path, known.of, json.loads(json.dumps(question)), resume)
            self.records = known.rows
            self._log = held.enter_context(Log(path, SAMPLES, of=question))
            self._held = held.pop_all()

    def append(self, record: dict[str, Any]) -> None:
        """Adds one record, whole or not at all; it is on the disk when this returns."""
        self._log.append(record)
        self._log.flush()
        self.records.append(record)

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(path: Path, then: Mapping[str, Any], now: Mapping[str, Any], resume: bool) -> None:
    if not resume:
        raise UsageError(
            f"{path}: a build has left its samples here; continue with --resume, or remove the file"
        )
    changed = [
        f"{name}: then {then.get(name)}, now {now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise UsageError(
            f"{path}: settings differ from the build that wrote this file ({'; '.join(changed)}). "
            "Use the same settings, or remove the file"
        )
