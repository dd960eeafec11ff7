"""Where to measure, by name: this machine, or a board over ssh."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.link import Link, LocalLink, plugin_file
from hwnas.measure.remote.ssh_board import SshBoard, SshLink
from hwnas.measure.remote.ssh_connection import CONFIG_VARIABLE

__all__ = ["LOCAL", "start_link"]

LOCAL = "local"


def start_link(
    host: str, runtime: str, *, say: Callable[[str], None] = lambda text: None
) -> Callable[[], Link]:
    """A function that starts a fresh agent on `host`: "local", "user@board", a name of ~/.ssh/config.

    Nothing is connected before its first call; a board is then ours until this process ends. `say` is
    told what takes long and what went wrong on the way. Raises UsageError for an unknown runtime and
    for what cannot be a host; the function raises BoardError when the board cannot be reached.
    """
    plugin_file(runtime)
    if host == LOCAL:
        return lambda: LastingLink(lambda: LocalLink(runtime), say=say)
    board = _board(host, os.environ.get(CONFIG_VARIABLE))
    return lambda: LastingLink(lambda: SshLink(board, runtime, say=say), boot=lambda: board.boot, say=say)


@functools.cache
def _board(host: str, config: str | None) -> SshBoard:
    """The board: one for the whole process, or we would stand in our own way."""
    return SshBoard(host, config=Path(config) if config else None)
