"""A board that starts anew in the middle of a cell: nothing of ours runs any more, the build goes on."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from board import sshd
from board.conftest import PROFILE, RUNTIME
from board.test_link import RULES, programs, sessions
from hwnas.errors import BoardError
from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.ssh_board import SshBoard, SshLink

pytestmark = pytest.mark.slow
DOWN_S = 2.0
"""How long the board is away."""


class Rebooting:
    """A board whose boot id is in a file, as a kernel's is; `reboot` ends all that runs on it."""

    def __init__(self, new_board: Callable[..., sshd.Board], folder: Path) -> None:
        self._boot = folder / "boot_id"
        self._boot.write_text("first\n")
        (folder / "bin").mkdir()
        programs(
            folder / "bin",
            cat=f'case "$1" in */boot_id) exec /bin/cat "{self._boot}";; esac\nexec /bin/cat "$@"',
        )
        self.board = new_board(PATH=f"{folder / 'bin'}:{os.environ['PATH']}")

    def reboot(self) -> None:
        """The server, its sessions and the agent are killed; after a while only the server is back."""
        open_sessions = sessions(self.board)
        self.board.stop()
        for pid in [*open_sessions, *self.board.processes()]:
            os.kill(pid, signal.SIGKILL)
        self._boot.write_text("second\n")
        time.sleep(DOWN_S)
        self.board.start()


def test_a_board_that_starts_anew_in_mid_build_is_warmed_up_and_goes_on_at_the_next_cell(
    new_board: Callable[..., sshd.Board], reach: Callable[..., SshBoard], tmp_path: Path
) -> None:
    rebooting = Rebooting(new_board, tmp_path)
    host = reach(rebooting.board)
    said: list[str] = []
    asked: list[str] = []

    class Counted(SshLink):
        def measure(self, model: bytes, **options: Any) -> dict[str, Any]:
            asked.append(model.decode())
            return super().measure(model, **options)

    link = LastingLink(lambda: Counted(host, RUNTIME), boot=lambda: host.boot, say=said.append)
    link.hello()
    link.companion(b"companion", profile=PROFILE)
    marker = tmp_path / "cell-running"
    slow = f"slow:{marker}"

    def reboot_within_the_cell() -> None:
        while not marker.exists():
            time.sleep(0.05)
        rebooting.reboot()

    away = threading.Thread(target=reboot_within_the_cell)
    away.start()
    done = [
        link.measure(cell.encode(), rules=RULES, profile=PROFILE, beside=True)
        for cell in ("one", "two", slow, "four")
    ]
    away.join()
    assert all(answer["samples_ns"] and answer["companion_ns"] for answer in done)
    # The cell in hand is asked for again: once to warm the board up, once to count. No other is.
    assert asked == ["one", "two", slow, slow, slow, "four"]
    assert "Waiting for it for up to 10 minutes" in said[0]
    assert said[1:] == ["the board is back; continuing", "the board rebooted: warming up again"]
    link.close()


def test_a_board_that_comes_back_with_another_runtime_ends_the_build(
    new_board: Callable[..., sshd.Board], reach: Callable[..., SshBoard], tmp_path: Path
) -> None:
    rebooting = Rebooting(new_board, tmp_path)
    plugin = tmp_path / "plugin.py"
    source = Path(__file__).with_name("fake_runtime.py").read_text()
    plugin.write_text(source)
    host = reach(rebooting.board, plugin=lambda runtime: plugin)
    link = LastingLink(lambda: SshLink(host, RUNTIME), boot=lambda: host.boot)
    link.hello()
    link.measure(b"one", rules=RULES, profile=dataclasses.replace(PROFILE))
    plugin.write_text(source.replace('"version": "1.0"', '"version": "2.0"'))
    rebooting.reboot()
    with pytest.raises(BoardError, match="came back with another version: it was 1.0, now it is 2.0"):
        link.measure(b"two", rules=RULES, profile=PROFILE)
    link.close()
