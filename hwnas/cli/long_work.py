"""What a long piece of work shows while it goes on, and how it is ended: progress, and signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.search.api import Progress

__all__ = ["noting", "progress_bar"]


@contextmanager
def noting(
    signals: list[int], say: Callable[[str], None], *, after: str = "this candidate"
) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP is noted in `signals`; the second raises KeyboardInterrupt."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt
        say(f"Stopping after {after} and saving. Once more stops at once.")

    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    before = {
        number: signal.signal(number, on_signal)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # as nohup leaves SIGHUP
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(messages: Any, wanted: int, *, doing: str = "searching") -> Iterator[Progress]:
    """Shows how far the work is, and how long it will take unless `wanted` is 0 (not known).

    Shows nothing without a terminal.
    """
    if not messages.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=messages, transient=True) as bar:
        task = bar.add_task(doing, total=wanted or None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
