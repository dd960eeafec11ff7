"""The samples file: a line a measured cell, appended at once, so that a killed build goes on.

First line: what was asked. Then a JSON object a line, with the raw samples. A line torn by a kill is
cut off when the file is opened again.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from hwnas.errors import FileFormatError, HwnasError, UsageError

__all__ = ["FORMAT", "SCHEMA", "Journal"]

FORMAT = "hwnas latency samples"
SCHEMA = 2
"""1 had no companion."""


class Journal:
    """The samples of one build, open for appending; one process at a time."""

    def __init__(self, path: Path, question: dict[str, Any], *, resume: bool) -> None:
        """Opens the file, or starts it.

        Raises UsageError when an unfinished build is there and `resume` is not given, or when it
        asked something else; FileFormatError when the file is foreign or damaged; HwnasError when
        another process writes it.
        """
        self.path = path
        question = json.loads(json.dumps(question))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self.records = self._recover()
            if self.records:
                header = self.records.pop(0)
                self._check(header, question, resume)
            else:
                self._write({"format": FORMAT, "schema": SCHEMA, "question": question})
        except BaseException:
            os.close(self._file)
            raise

    def append(self, record: dict[str, Any]) -> None:
        """Adds one record, whole or not at all."""
        self.records.append(record)
        self._write(record)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HwnasError(f"{self.path}: another build is writing it; wait for it, or end it") from None

    def _recover(self) -> list[dict[str, Any]]:
        """All whole records; what follows the last newline is cut off the file."""
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.ftruncate(self._file, whole)
        records = []
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise FileFormatError(
                    f"{self.path}: line {number} is damaged; remove the file to measure everything again"
                )
            records.append(record)
        return records

    def _check(self, header: dict[str, Any], question: dict[str, Any], resume: bool) -> None:
        if header.get("format") != FORMAT:
            raise FileFormatError(f"{self.path}: not a file of latency samples")
        if header.get("schema") != SCHEMA:
            raise FileFormatError(
                f"{self.path}: schema {header.get('schema')}, this hwnas reads {SCHEMA}; "
                "upgrade: pip install -U hwnas"
            )
        if not resume:
            raise UsageError(
                f"{self.path}: a build has left its samples here; go on with --resume, or remove the file"
            )
        asked = header.get("question", {})
        changed = [
            f"{name}: then {asked.get(name)}, now {question.get(name)}"
            for name in sorted({*asked, *question})
            if asked.get(name) != question.get(name)
        ]
        if changed:
            raise UsageError(
                f"{self.path}: this build asked something else, and samples never mix "
                f"({'; '.join(changed)}). Ask the same, or remove the file"
            )
