"""Ends a process that nobody is at the other end of any more: its input closed, or its lease lost.

Two threads that sleep in the kernel until that happens: they take no time from what is measured.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable

__all__ = ["end_with_input", "end_with_lease"]

INPUT_CLOSED = 3
LEASE_LOST = 4
GRACE_S = 2.0


def end_with_input(
    input_fd: int, *, grace_s: float = GRACE_S, end: Callable[[int], object] = os._exit
) -> threading.Thread:
    """Calls `end` once the other end of `input_fd` has been closed for `grace_s` seconds.

    Until then whoever reads the input may end by itself; a model that runs for minutes does not.
    """
    watch = select.poll()
    watch.register(input_fd, getattr(select, "POLLRDHUP", 0))  # a hang-up is told without being asked for

    def wait() -> None:
        watch.poll()
        time.sleep(grace_s)
        end(INPUT_CLOSED)

    return _start(wait)


def end_with_lease(path: str, *, end: Callable[[int], object] = os._exit) -> threading.Thread:
    """Calls `end` once the process that holds the lease in the file `path` is gone."""
    file = os.open(path, os.O_RDONLY)

    def wait() -> None:
        fcntl.flock(file, fcntl.LOCK_SH)
        end(LEASE_LOST)

    return _start(wait)


def _start(wait: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread
