"""One process at a time: a lock file that the system frees when its holder dies, however it dies."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwnas.errors import HwnasError
from hwnas.io.files import unwritable

__all__ = ["Busy", "beside", "locked"]

_ADVICE = (
    ". The folder must be writable, and its file system must have flock: choose a folder on a local disk"
)


class Busy(HwnasError):
    """Another process holds the lock."""


def beside(path: Path) -> Path:
    """The lock file of a file that several processes write."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(file: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the lock file for this process; waits at most `wait_s` for another one to let go of it.

    The file stays when the lock is freed: what is left of a process that was killed holds nobody up.
    Raises Busy when another process has it, UsageError where the folder cannot be written, HwnasError where
    its file system cannot lock.
    """
    import filelock

    if not file.parent.is_dir():  # which filelock would make
        raise HwnasError(f"{file}: cannot be locked: there is no folder {file.parent}")
    lock = filelock.FileLock(file, timeout=wait_s, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise Busy(f"{file}: another process holds this lock; wait for it, or end it") from None
    except (OSError, NotImplementedError) as error:
        cause = (
            error if isinstance(error, OSError) else OSError(errno.ENOLCK, str(error) or "not implemented")
        )
        raise unwritable(file, cause, how="locked", advice=_ADVICE) from None
    try:
        yield
    finally:
        lock.release()
