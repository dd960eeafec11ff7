"""The standard streams of a command: stdout is data and nothing else, stderr may fail, both may be closed.

While a command runs, only `sys.stdout` leads to the standard output: what libraries written in C, child
processes and user code write to file descriptor 1 goes to stderr. Characters that an output's encoding
does not have are escaped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

__all__ = ["standard_streams"]


@contextmanager
def standard_streams() -> Iterator[None]:
    """Within, `sys.stdout` and `sys.stderr` are as above. Streams that a caller replaced stay as they are.

    An error in writing to stdout is raised; what could not be written by the end is dropped.
    """
    closed = _opened_where_closed()
    before = sys.stdout, sys.stderr
    if 2 in closed or _is(sys.stderr, 2):
        sys.stderr = _stderr()
    own = None
    if 1 in closed:
        sys.stdout = cast(TextIO, _Closed())
    elif _is(sys.stdout, 1):
        sys.stdout.flush()
        own = os.dup(1)
        os.dup2(2, 1)
        # In binary mode first, so that closing it is up to here.
        sys.stdout = open(  # noqa: SIM115
            own,
            "w",
            buffering=1 if os.isatty(own) else -1,
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            closefd=False,
        )
    data = sys.stdout
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        if own is not None:
            os.dup2(own, 1)
            try:
                data.flush()
            except OSError:  # was raised before, and must not be again when Python exits
                os.dup2(os.open(os.devnull, os.O_WRONLY), own)
            data.close()
            os.close(own)


def _is(stream: TextIO | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):  # a test's, or one in memory
        return False


def _opened_where_closed() -> set[int]:
    """The standard descriptors that were closed; a file that is opened next must not get their numbers."""
    closed = set()
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            closed.add(number)
    return closed


class _Lossy(io.FileIO):
    """A file whose failures are nobody's: a terminal that has gone, a disk that is full."""

    def write(self, data: object) -> int:
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def _stderr() -> TextIO:
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    raw = _Lossy(2, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=True
    )


class _Closed(io.TextIOBase):
    """The standard output of a process that was started without one."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False
