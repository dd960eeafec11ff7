"""Record: JSON lines that are only ever appended to, and survive being killed at any byte.

A line counts once its newline is there. What a killed writer left after the last newline is cut
off before the next append, because a line glued to a torn one would spoil both.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io.atomic import write_whole

__all__ = [
    "FORMAT",
    "SCHEMA",
    "Journal",
    "Record",
    "read_record",
    "write_atomically",
]

FLUSH_EVERY_S = 0.1
"""Lines wait for at most this long: what a kill can lose of cheap evaluations that come one by one."""


class Record:
    """Appends to a record; close it, or use it in a `with`."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._waiting: list[bytes] = []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.ftruncate(self._file, _whole_bytes(path.read_bytes()))
        except OSError as error:
            raise self._failure(error) from None
        self._flushed = clock()

    def append(self, data: dict[str, Any]) -> None:
        """Adds a line; it is on the disk 0.1 s later at the latest, at once after slow work."""
        self.extend([data])

    def extend(self, many: Iterable[dict[str, Any]]) -> None:
        """Adds lines, all with one write."""
        self._waiting += [json.dumps(data, separators=(",", ":")).encode() + b"\n" for data in many]
        if self._clock() - self._flushed >= FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Writes all lines and waits for the disk: then neither a kill nor a power cut matters to them.

        Raises HwnasError when the disk is full or gone; whole lines written before stay valid.
        """
        if not self._waiting:
            return
        rest = memoryview(b"".join(self._waiting))
        start = os.fstat(self._file).st_size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, start)  # half a line would spoil the next one
            raise self._failure(error) from None
        self._waiting.clear()
        self._flushed = self._clock()

    def close(self) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            os.close(self._file)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failure(self, error: OSError) -> HwnasError:
        return HwnasError(
            f"{self._path}: cannot be written: {error.strerror}. What is in it stays valid: "
            f"make room or make it writable, then resume"
        )


def read_record(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a record, in order; none when there is no file. Changes nothing.

    Raises FileFormatError, naming the line, when a line is not a JSON mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from None
    lines = []
    for number, line in enumerate(content[: _whole_bytes(content)].splitlines(), start=1):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise FileFormatError(
                f"{path}: line {number} is not a record of a candidate. Delete that line to go on without it"
            )
        lines.append(data)
    return lines


def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all; raises HwnasError when it cannot."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise HwnasError(f"{path}: cannot be written: {error.strerror}") from None


def _whole_bytes(content: bytes) -> int:
    """How many bytes up to and with the last newline."""
    return content.rfind(b"\n") + 1


# --- samples file -----------------------------------------------------------------------------
# First line: what was asked. Then a JSON object a line, with the raw samples. A line torn by a kill is
# cut off when the file is opened again.

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
