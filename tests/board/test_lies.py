"""A real ssh server whose Python lies: what it says instead of an agent's answers is one clear error."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from board import sshd
from board.conftest import RUNTIME
from hwnas.errors import BoardError, HwnasError
from hwnas.measure.remote import link as links
from hwnas.measure.remote.ssh_board import SshBoard, SshLink

Reach = Callable[..., SshBoard]
NewBoard = Callable[..., sshd.Board]

LIES = {
    "garbage": ("head -c 100000 /dev/urandom", "ended without an answer|is gone|no frame"),
    "endless": ("exec cat /dev/zero", "no frame within"),
    "silence": ("exec sleep 30", "did not answer"),
    "escapes": ("printf '\\\\033[2J\\\\033]0;owned\\\\007bad' >&2; exit 3", "failed there: bad|: bad"),
    "half": ("printf '\\\\000HWNAS3\\\\n\\\\000\\\\000'; exec sleep 30", "did not answer"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_real_server_whose_python_lies_is_one_clear_error(
    lie: str, new_board: NewBoard, reach: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does, told = LIES[lie]
    liar = tmp_path / "python3"
    does = does.replace("\\\\", "\\")
    liar.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '*calcsize*) echo "3.11.2 64 $0";;\n'  # the greeting asks for version, bits and path
        "*tarfile*) cat >/dev/null;;\n"  # the agent's files are sent
        f"*) {does};;\n"
        "esac\n"
    )
    liar.chmod(0o755)
    board = new_board(HWNAS_PYTHON=str(liar))
    host = reach(board)
    monkeypatch.setattr("hwnas.measure.remote.ssh_board._ANSWER_S", 2.0)
    monkeypatch.setattr(links, "_END_S", 0.5)
    began = time.monotonic()
    with pytest.raises((BoardError, HwnasError), match=told) as error:
        SshLink(host, RUNTIME)
    assert time.monotonic() - began < 30
    assert "\x1b" not in str(error.value)
