"""Reading a file that anyone may have made: regular files only, and never more bytes than allowed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hwnas.errors import FileFormatError, HwnasError, UsageError

__all__ = ["PLACE_ERRORS", "open_regular", "read_bytes", "unreadable", "unwritable"]

PLACE_ERRORS = frozenset(
    getattr(errno, name)
    for name in [
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOENT",
        "ENOTDIR",
        "EISDIR",
        "EEXIST",
        "ENOTEMPTY",
        "ENAMETOOLONG",
        "ELOOP",
    ]
)
"""What another path, or other permissions, would avoid: the caller's to change."""


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """A descriptor of a regular file. Raises OSError for a folder, a device, a pipe or a socket.

    Never waits: a pipe that nobody writes to would hold the process up for good.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file, but a device or a pipe", str(path))


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`, as far as it goes when it is opened.

    Raises FileFormatError that names the file.
    """
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise FileFormatError(f"{path}: at most {max_bytes} bytes are read, got {size}")
            return file.read(size)  # Python takes as much memory as it is asked to read
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise unreadable(path, error) from None


def unwritable(path: Path, error: OSError, *, how: str = "written", advice: str = "") -> HwnasError:
    """The error for a file that cannot be `how`; a UsageError where another place would do."""
    text = f"{path}: cannot be {how}: {error.strerror or error}{advice}"
    return UsageError(text) if error.errno in PLACE_ERRORS else HwnasError(text)


def unreadable(path: Path, error: Exception) -> FileFormatError:
    """The error for a file that cannot be read."""
    return FileFormatError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
