"""Fixtures for the tests of the link: a board on loopback, and agents on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from board import sshd
from hwnas.measure.remote.ssh_board import SshBoard
from hwnas.predictors.latency.profile import DeviceProfile

RUNTIME = "fake"
FAKE = Path(__file__).with_name("fake_runtime.py")
PROFILE = DeviceProfile(
    board="loopback",
    runtime="fake",
    runtime_version="1.0",
    provider="cpu",
    threads=1,
    batch=1,
    precision="fp32",
)


def needs_sshd() -> None:
    reason = sshd.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def new_board(tmp_path: Path) -> Iterator[Callable[..., sshd.Board]]:
    """Makes a board whose sessions have the given settings; it is gone after the test."""
    needs_sshd()
    made: list[sshd.Board] = []

    def make(**settings: str) -> sshd.Board:
        made.append(sshd.Board(tmp_path / f"board{len(made)}", settings))
        return made[-1]

    yield make
    for board in made:
        board.end()


@pytest.fixture
def board(new_board: Callable[..., sshd.Board]) -> sshd.Board:
    """A board that nothing is wrong with."""
    return new_board()


@pytest.fixture
def reach() -> Iterator[Callable[..., SshBoard]]:
    """`reach(board)`: the host's end, with the fake runtime; closed after the test."""
    open_ones: list[SshBoard] = []

    def to(board: sshd.Board, *, config: Path | None = None, **options: Any) -> SshBoard:
        options = {"plugin": lambda runtime: FAKE, **options}
        host = SshBoard(sshd.HOST, config=config or board.config, **options)
        open_ones.append(host)
        return host

    yield to
    for host in open_ones:
        host.close()
