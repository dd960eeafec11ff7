"""Code of the user's, called so that whatever it does stays its own: `called` and `guarded`.

What it prints goes to stderr, as stdout is data. The working folder is put back. Every exception becomes an
error that names the function, `sys.exit` too; only Ctrl-C and signals pass. A process that it forks ends
where it would come back. A call may have a limit in time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from hwnas.errors import HwnasError, UsageError

__all__ = ["GUARD", "called", "guarded", "require_main"]

GUARD = 'if __name__ == "__main__":'
"""What a script needs that starts processes, or whose libraries do."""


class _TooLong(BaseException):
    """The limit has passed; no `except Exception` of the user's may take it."""


def called(what: str, function: Callable[..., Any], *arguments: Any, limit_s: float | None = None) -> Any:
    """What the function returns; `what` names the call in errors.

    Raises UsageError when it fails in any way, or takes longer than `limit_s` seconds. The limit interrupts
    Python code and waiting, in the main thread alone.
    """
    with guarded(what, limit_s=limit_s):
        return function(*arguments)


@contextlib.contextmanager
def guarded(what: str, *, limit_s: float | None = None) -> Iterator[None]:
    """As `called`, for a block."""
    process, folder = os.getpid(), _folder()
    code = 0
    try:
        with contextlib.redirect_stdout(sys.stderr), _limited(limit_s):
            yield
    except (KeyboardInterrupt, GeneratorExit, HwnasError):
        code = 1
        raise
    except _TooLong:
        raise UsageError(
            f"{what} took longer than {limit_s:g} s: raise the limit (--evaluation-timeout), or find out "
            "where it hangs"
        ) from None
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise UsageError(
            f"{what} called sys.exit({end.code!r}): it must return a value, or raise an exception"
        ) from end
    except BaseException as error:
        code = 1
        raise UsageError(f"{what}: {type(error).__name__}: {error}") from error
    finally:
        if os.getpid() != process:  # a child of the user's fork: the work here is its parent's
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)
        if folder is not None and _folder() != folder:
            os.chdir(folder)


def require_main(what: str) -> None:
    """Raises UsageError in a process that is only importing the script that started it.

    A process that is started afresh (not forked) imports the script: what stands there without a guard
    would run once more in each of them.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(
            f"{what} in a script must stand below a line `{GUARD}`: this process was started by the script "
            "and only imports it"
        )


def _folder() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


@contextlib.contextmanager
def _limited(limit_s: float | None) -> Iterator[None]:
    if limit_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_number: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
