"""The lease: one host at a time measures on a board, and who it is can be read.

The lease is a locked file. The kernel unlocks it when its holder dies, so it is never stale.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["Lease", "holder", "lease_file"]

TAKE_OVER_S = 3.0
"""How long a holder of the same session has to go away."""


def lease_file() -> Path:
    """One for the whole board, whoever logs in."""
    return Path(tempfile.gettempdir()) / "hwnas.lease"


def holder(path: Path | None = None) -> dict[str, Any] | None:
    """Who holds the lease: {"by", "session", "pid", "since_s"}; None when nobody does."""
    try:
        file = os.open(path or lease_file(), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(file)
    finally:
        os.close(file)
    return None


class Lease:
    """The right to measure on this board, held until the process ends."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or lease_file()
        self._file = _open(self.path)

    def take(self, by: str, session: str) -> dict[str, Any] | None:
        """Takes the lease: None when it is ours now, else who holds it (as `holder` says it).

        A holder of the same session is a process of ours whose host lost the link: it is ended.
        """
        deadline = time.monotonic() + TAKE_OVER_S
        while not self._lock():
            other = _read(self._file)
            if other.get("session") == session:
                _kill(other.get("pid"))
                patience_s = deadline - time.monotonic()
            else:
                # An agent that sees its lease lost has the file for a moment too, and ends.
                patience_s = 0.5 - TAKE_OVER_S + deadline - time.monotonic()
            if patience_s <= 0:
                return other
            time.sleep(0.05)
        record = {"by": by, "session": session, "pid": os.getpid(), "since_s": time.time()}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(record).encode(), 0)
        return None

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _open(path: Path) -> int:
    """The file, open to everyone on the board; never through a link that somebody else laid."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        pass
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.EEXIST:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        raise
    os.fchmod(file, 0o666)
    return file


def _read(file: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"by": "another host", "pid": None, "since_s": time.time()}


def _kill(pid: object) -> None:
    """Ends the keeper `pid` and what it has started: it leads their group."""
    if isinstance(pid, int) and pid > 1:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
