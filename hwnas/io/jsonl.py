"""Log: JSON lines that are only ever appended to, and survive being killed at any byte.

    {"format":"hwnas candidates","version":1,"of":{"config":"6f3a..."},"crc":"0c1d2e3f"}
    {"id":"2b...","vector":[...],...,"crc":"9a8b7c6d"}

The first line says what the file is and what its lines belong to. The checksum of a line is the CRC-32
of all before it in the line, continued from the checksum of the first line: a flipped bit is found, and
so is a line of another log. Files of before there were checksums are read, and appended to, as they
are; `Contents.checked` says which kind it is.

A line counts once its newline is there. What a killed writer left after the last newline is cut off
before the next append, because a line glued to a torn one would spoil both; but only once the file is
seen to be a log of the kind that is asked for.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, HwnasError
from hwnas.io.files import open_regular, unreadable, unwritable
from hwnas.io.json import JsonError, strict
from hwnas.io.lock import Busy, beside, locked

__all__ = ["FLUSH_EVERY_S", "MAX_LINE_BYTES", "Contents", "Kind", "Log", "append_shared", "read_log"]

FLUSH_EVERY_S = 0.1
"""Lines wait for at most this long: what a kill can lose of cheap evaluations that come one by one."""
MAX_LINE_BYTES = 16 * 1024 * 1024
SHARED_WAIT_S = 60.0
"""Another process appends for milliseconds; who holds the lock for this long is stuck."""

_SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_SEAL_BYTES = 18


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of log."""

    format: str
    """What its first line says, such as `hwnas candidates`."""
    noun: str
    """What a line is, for errors: `a candidate of a search`."""
    fix: str
    """What to do about a damaged line, for errors."""
    version: int = 1
    oldest: int = 1
    """The oldest version that is read."""
    old_keys: tuple[str, ...] = ()
    """What the lines of files without a first line of this kind hold, the line's first key first.

    Empty when there are no such files.
    """

    def damaged(self, path: Path, line: int, why: str = "") -> FileFormatError:
        """The error for a line that is not one of this kind."""
        return FileFormatError(f"{path}: line {line}: not {self.noun}{why and ': ' + why}. {self.fix}")


@dataclass(frozen=True, slots=True)
class Contents:
    """The whole lines of a log, in their order; a line that is there twice counts once."""

    rows: list[dict[str, Any]]
    of: Mapping[str, Any] | None = None
    """What the lines belong to; None when the file does not say."""
    checked: bool = True
    """Whether each line has its checksum. False for files of before there were any."""
    lines: Sequence[int] = ()
    """The number of each row's line."""

    def numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line number, row)."""
        return zip(self.lines, self.rows, strict=True)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first line says."""

    of: Mapping[str, Any] | None
    seed: int | None
    """What checksums begin with; None in files of before there were any."""


def read_log(path: Path, kind: Kind) -> Contents:
    """The whole lines of a log; none when there is no file. Changes nothing.

    Raises FileFormatError, naming the line, when one is damaged, foreign or too long.
    """
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return Contents([])
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    head: _Head | None = None
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    seen: set[int] = set()
    with os.fdopen(descriptor, "rb") as file:
        number = 0
        while (line := file.readline(MAX_LINE_BYTES + 1)).endswith(b"\n"):
            number += 1
            if head is None:
                head = _head(line, path, kind)
                if head.of is not None:
                    continue
            if hash(line) in seen:
                continue
            seen.add(hash(line))
            numbers.append(number)
            rows.append(_row(line, head.seed, path, kind, number))
        if len(line) > MAX_LINE_BYTES:
            raise kind.damaged(path, number + 1, f"a line has at most {MAX_LINE_BYTES} bytes")
    if head is None:
        _check_torn(line, path, kind, head=None)
        return Contents([])
    _check_torn(line, path, kind, head=head)
    return Contents(rows, head.of, head.seed is not None, numbers)


class Log:
    """Appends to a log; close it, or use it in a `with`. One process at a time: see `hwnas.io.lock`."""

    def __init__(
        self,
        path: Path,
        kind: Kind,
        *,
        of: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the log, or starts one whose lines belong to `of`.

        Raises FileFormatError when the file is not a log of this kind, or belongs to something else;
        HwnasError when it cannot be written.
        """
        self._path, self._kind, self._clock = path, kind, clock
        self._waiting: list[bytes] = []
        belongs_to = json.loads(json.dumps(of or {}))
        try:
            self._file = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise self._failure(error) from None
        try:
            head, whole = self._examined()
            if head is None:
                self._seed: int | None = None
                first = {"format": kind.format, "version": kind.version, "of": belongs_to}
                line = _sealed(first, 0)
                self._seed = _seal_of(line)
                os.ftruncate(self._file, 0)
                self._waiting.append(line)
                self._flushed = clock()
                self.flush()
            else:
                if head.of is not None and head.seed is not None and head.of != belongs_to:
                    raise FileFormatError(
                        f"{path}: its lines belong to something else ({_shown(head.of)}, not "
                        f"{_shown(belongs_to)}). {kind.fix}"
                    )
                self._seed = head.seed
                os.ftruncate(self._file, whole)
                self._flushed = clock()
        except OSError as error:
            os.close(self._file)
            raise self._failure(error) from None
        except BaseException:
            os.close(self._file)
            raise

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a line; it is on the disk 0.1 s later at the latest, at once after slow work."""
        self.extend([row])

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines, all with one write. Raises HwnasError for a number that is not finite."""
        try:
            lines = [_line(row, self._seed) for row in rows]
        except ValueError:
            raise HwnasError(
                f"{self._path}: not written: the numbers of {self._kind.noun} must be finite"
            ) from None
        if any(len(line) > MAX_LINE_BYTES for line in lines):
            raise HwnasError(f"{self._path}: not written: a line has at most {MAX_LINE_BYTES} bytes")
        self._waiting += lines
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

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _examined(self) -> tuple[_Head | None, int]:
        """The first line, None when there is none yet, and how many bytes are whole lines."""
        size = os.fstat(self._file).st_size
        first = _start_of(self._file)
        if not first.endswith(b"\n"):
            _check_torn(first, self._path, self._kind, head=None)
            return None, 0
        head = _head(first, self._path, self._kind)
        tail = _end_of(self._file, size)
        _check_torn(tail, self._path, self._kind, head=head)
        return head, size - len(tail)

    def _failure(self, error: OSError) -> HwnasError:
        advice = ". What is in it stays valid: make room or make it writable, then resume"
        return unwritable(self._path, error, advice=advice)


def append_shared(path: Path, kind: Kind, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds lines to a log that several processes append to; they are on the disk when this returns.

    Raises FileFormatError when the file is not a log of this kind, HwnasError when it cannot be written.
    """
    try:
        with locked(beside(path), wait_s=SHARED_WAIT_S), Log(path, kind) as log:
            log.extend(rows)
    except Busy:
        raise HwnasError(
            f"{path}: another process has been writing it for {SHARED_WAIT_S:g} s: end that process"
        ) from None


# --- lines ------------------------------------------------------------------------------------


def _line(row: Mapping[str, Any], seed: int | None) -> bytes:
    if seed is not None:
        return _sealed(row, seed)
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _sealed(row: Mapping[str, Any], seed: int) -> bytes:
    body = json.dumps(row, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body, seed)


def _seal_of(line: bytes) -> int | None:
    """The checksum that a line carries; None when it has none."""
    found = _SEAL.fullmatch(line.rstrip(b"\n")[-_SEAL_BYTES:])
    return int(found[1], 16) if found else None


def _is_intact(line: bytes, seed: int) -> bool:
    return _seal_of(line) == zlib.crc32(line.rstrip(b"\n")[:-_SEAL_BYTES], seed)


def _head(line: bytes, path: Path, kind: Kind) -> _Head:
    """What the first line says; raises FileFormatError when the file is not of this kind."""
    data = _mapping(line, path, kind, 1)
    if "format" not in data:
        if not kind.old_keys or not all(key in data for key in kind.old_keys):
            raise kind.damaged(path, 1)
        return _Head(of=None, seed=None)
    if data["format"] != kind.format:
        raise FileFormatError(
            f"{path}: not a file of the format '{kind.format}', got {_shown(data['format'])}"
        )
    version = data.get("version", data.get("schema"))
    if type(version) is not int or version < kind.oldest:
        raise FileFormatError(
            f"{path}: version {_shown(version)} of '{kind.format}', this hwnas reads "
            f"{kind.oldest} to {kind.version}. {kind.fix}"
        )
    if version > kind.version:
        raise FileFormatError(
            f"{path}: version {version} of '{kind.format}' is of a newer hwnas, this one reads up to "
            f"{kind.version}: upgrade hwnas"
        )
    of = data.get("of", data.get("question"))
    if not isinstance(of, dict):
        raise kind.damaged(path, 1, "it does not say what it belongs to")
    if "version" not in data:  # files of before there were checksums
        return _Head(of, seed=None)
    if not _is_intact(line, 0):
        raise kind.damaged(path, 1, "the checksum does not match")
    return _Head(of, seed=_seal_of(line))


def _row(line: bytes, seed: int | None, path: Path, kind: Kind, number: int) -> dict[str, Any]:
    row = _mapping(line, path, kind, number)
    seal = row.pop("crc", None)
    if seed is None:
        if seal is not None:
            raise kind.damaged(path, number, "it has a checksum, but the first line of the file is gone")
    elif not _is_intact(line, seed):
        raise kind.damaged(path, number, "the checksum does not match")
    return row


def _mapping(line: bytes, path: Path, kind: Kind, number: int) -> dict[str, Any]:
    try:
        data = strict(line)
    except JsonError as error:
        raise kind.damaged(path, number, str(error)) from None
    if not isinstance(data, dict):
        raise kind.damaged(path, number)
    return data


# --- what a kill leaves -----------------------------------------------------------------------


def _check_torn(tail: bytes, path: Path, kind: Kind, *, head: _Head | None) -> None:
    """Raises FileFormatError when what follows the last newline is not the beginning of a line.

    A power cut may leave NULs there. Without a first line, the beginning must be one of this kind.
    """
    tail = tail.rstrip(b"\0")
    if head is None:
        starts = [f'{{"format":"{kind.format}"', f'{{"format": "{kind.format}"']
        starts += [f'{{"{kind.old_keys[0]}":'] if kind.old_keys else []
        if any(tail.startswith(start.encode()[: len(tail)]) for start in starts):
            return
        raise kind.damaged(path, 1)
    whole = _SEAL.search(tail)
    if tail[:1] not in (b"", b"{") or (head.seed is not None and whole and whole.end() < len(tail)):
        raise FileFormatError(
            f"{path}: damaged: what follows its last line is not {kind.noun} that a kill has torn. {kind.fix}"
        )


def _start_of(file: int) -> bytes:
    """The first line, or what there is of it."""
    content = b""
    while b"\n" not in content and len(content) <= MAX_LINE_BYTES:
        block = os.pread(file, 65536, len(content))
        if not block:
            break
        content += block
    line, newline, _ = content.partition(b"\n")
    return line + newline


def _end_of(file: int, size: int) -> bytes:
    """What follows the last newline."""
    tail, start = b"", size
    while start and len(tail) <= MAX_LINE_BYTES:
        begin = max(0, start - 65536)
        block = os.pread(file, start - begin, begin)
        if (place := block.rfind(b"\n")) >= 0:
            return block[place + 1 :] + tail
        tail, start = block + tail, begin
    return tail


def _shown(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
