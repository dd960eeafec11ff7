"""Pipes to a process that may say anything or nothing: each wait has a limit, and each size a bound."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import IO, Any

from hwnas.board.protocol import ProtocolError
from hwnas.text import plain

__all__ = ["MAX_ANSWER_BYTES", "Incoming", "LastWords", "Outgoing"]

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""The longest answer, raw samples of a cell, has a hundredth of that."""
_PART_BYTES = 65536


class Incoming:
    """Reads a pipe for a time and for a number of bytes, however little comes at once."""

    def __init__(self, descriptor: int, limit_s: float) -> None:
        self._file, self._ends_s = descriptor, time.monotonic() + limit_s
        self._left = MAX_ANSWER_BYTES

    def read(self, count: int) -> bytes:
        """At most `count` bytes, b"" at the end. Raises TimeoutError after the time, ProtocolError after
        the bytes."""
        _wait(self._file, self._ends_s, reading=True)
        part = os.read(self._file, min(count, _PART_BYTES))
        self._left -= len(part)
        if self._left < 0:
            raise ProtocolError(f"an answer has at most {MAX_ANSWER_BYTES} bytes")
        return part


class Outgoing:
    """Writes to a pipe for a time, however slowly the other end reads."""

    def __init__(self, descriptor: int, limit_s: float) -> None:
        os.set_blocking(descriptor, False)
        self._file, self._ends_s = descriptor, time.monotonic() + limit_s

    def write(self, data: bytes) -> None:
        """All of it. Raises TimeoutError after the time, OSError when the other end is gone."""
        rest = memoryview(data)
        while rest:
            _wait(self._file, self._ends_s, reading=False)
            try:
                rest = rest[os.write(self._file, rest[:_PART_BYTES]) :]
            except BlockingIOError:  # another writer was faster; there is none, but the kernel may say so
                continue

    def flush(self) -> None:
        pass


class LastWords:
    """What a process says at last on its standard error; what it said before is dropped."""

    def __init__(self, pipe: IO[bytes], *, kept_bytes: int = 65536) -> None:
        self._pipe, self._kept_bytes, self._tail = pipe, kept_bytes, b""
        self._is_over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self) -> str:
        """So far; all of it where the process has ended."""
        self._thread.join(timeout=0.2)
        return plain(self._tail.decode(errors="replace"))

    def last_line(self) -> str:
        """The last line that says something, or ""."""
        lines = self.text().strip().splitlines()
        return plain(lines[-1], most=500) if lines else ""

    def close(self) -> None:
        """To be called when the process has ended. What still writes there is not heard any more."""
        self._is_over = True
        self._thread.join(timeout=0.2)

    def _read(self) -> None:
        with self._pipe:
            while not self._is_over and (part := os.read(self._pipe.fileno(), _PART_BYTES)):
                self._tail = (self._tail + part)[-self._kept_bytes :]


def _wait(descriptor: int, ends_s: float, *, reading: bool) -> None:
    left_s = max(ends_s - time.monotonic(), 0.0)
    ends: Any = [descriptor]
    ready = select.select(ends, [], [], left_s)[0] if reading else select.select([], ends, [], left_s)[1]
    if not ready:
        raise TimeoutError
