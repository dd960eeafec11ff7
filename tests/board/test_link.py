"""A link over a real ssh server, and what must happen when a board is not as it should be."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from board import sshd
from board.conftest import PROFILE, RUNTIME
from board.proxy import Wire
from hwnas.board.timing import Rules
from hwnas.errors import BoardError, UsageError
from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.link import AgentGone, CellError
from hwnas.measure.remote.ssh_board import SshBoard, SshLink
from hwnas.measure.remote.ssh_connection import Connection
from hwnas.measure.remote.ssh_errors import LinkLost

RULES = Rules(warmup_runs=3, warmup_s=0.0, warmup_limit_s=0.05, repeats=5, limit_s=0.05)
Reach = Callable[..., SshBoard]
NewBoard = Callable[..., sshd.Board]


def measured(link: Any, model: bytes = b"fine", **changed: Any) -> dict[str, Any]:
    answer: dict[str, Any] = link.measure(model, rules=RULES, profile=dataclasses.replace(PROFILE, **changed))
    return answer


def gone_within(seconds: float, board: sshd.Board) -> bool:
    """Whether nothing of ours runs on the board any more."""
    deadline = time.monotonic() + seconds
    while board.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


# --- a board that is well ---


def test_an_agent_is_sent_started_and_measures_and_nothing_stays_behind(
    board: sshd.Board, reach: Reach
) -> None:
    host = reach(board)
    with SshLink(host, RUNTIME) as link:
        assert link.hello()["environment"]["cores"] == os.cpu_count()
        assert measured(link)["median_ms"] >= 1.0  # the fake network sleeps for a millisecond
        assert len(board.processes()) == 2  # the agent and the keeper
    host.close()
    assert gone_within(5, board)
    assert len(list((board.home / ".cache/hwnas").iterdir())) == 1


def test_the_agents_files_are_sent_once(board: sshd.Board, reach: Reach) -> None:
    first = reach(board)
    SshLink(first, RUNTIME).close()
    first.close()
    second = reach(board)
    SshLink(second, RUNTIME).close()
    assert 0 < first.sent_bytes < 100_000
    assert second.sent_bytes == 0


def test_a_model_travels_deflated_and_arrives_whole(board: sshd.Board, reach: Reach) -> None:
    weights = random.Random(0).randbytes(4 * 1021) * 2000  # 8 MB
    host = reach(board)
    with SshLink(host, RUNTIME) as link:
        before = host.sent_bytes
        assert measured(link, b"sum:%d:%s" % (zlib.crc32(weights), weights))["samples_ns"]
        assert host.sent_bytes - before < len(weights) / 50
        with pytest.raises(CellError, match="not those that were sent"):
            measured(link, b"sum:%d:%s" % (zlib.crc32(weights) ^ 1, weights))


def test_what_arrives_damaged_is_not_unpacked(board: sshd.Board, reach: Reach) -> None:
    connection = Connection(sshd.HOST, config=board.config)
    source = (Path(__file__).parents[2] / "hwnas/board/unpack.py").read_text()
    target = board.home / "agent"
    with pytest.raises(BoardError, match="what arrived is not what was sent: 4 bytes"):
        connection.run([sys.executable, "-c", source, str(target), "0" * 64], data=b"torn")
    connection.close()
    assert not target.exists()


# --- 30: who cannot be reached, and why ---


def test_a_refused_connection_is_told_as_such(board: sshd.Board, reach: Reach) -> None:
    board.stop()
    with pytest.raises(LinkLost, match=f"connection refused by .* on port {board.port}.*enable --now ssh"):
        reach(board).connect()


def test_a_wrong_key_is_told_as_such(board: sshd.Board, reach: Reach) -> None:
    with pytest.raises(
        BoardError,
        match="none of your keys was accepted by board .accepted methods: publickey.*ssh-copy-id board",
    ):
        reach(board, config=board.configure(key="other_key")).connect()


def test_a_changed_host_key_is_told_as_such(board: sshd.Board, reach: Reach) -> None:
    board.know("new_host_key")
    with pytest.raises(BoardError, match="has changed: .*SHA256:.*ssh-keygen -R board") as caught:
        reach(board).connect()
    assert f"{board.folder / 'known'}, line 1" in str(caught.value)
    assert not isinstance(caught.value, LinkLost)  # trying again cannot help


def test_an_unknown_host_key_is_never_accepted(board: sshd.Board, reach: Reach) -> None:
    board.know(None)
    config = board.config
    config.write_text(config.read_text() + " StrictHostKeyChecking no\n")
    with pytest.raises(
        BoardError, match="is not known, and hwnas accepts no key by itself. Run 'ssh board' once"
    ):
        SshBoard(sshd.HOST, config=config).connect()
    assert (board.folder / "known").read_text() == ""


def test_an_unknown_name_is_told_as_such(board: sshd.Board) -> None:
    with pytest.raises(LinkLost, match="unknown host .*no address was found"):
        Connection("nobody@no-such-board.invalid", config=board.config)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "pi@board extra"])
def test_what_cannot_be_a_host_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="a host is 'local', 'user@board'"):
        SshBoard(host)


# --- 31 and 32: a link that drops, a board that starts again ---


@pytest.mark.slow
def test_a_dropped_link_is_noticed_within_10_s_and_the_cell_is_timed_again(
    board: sshd.Board, reach: Reach
) -> None:
    wire = Wire(board.port)
    host = reach(board, config=board.configure(port=wire.port))
    said: list[str] = []
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        wire.mend()

    link = LastingLink(lambda: SshLink(host, RUNTIME), boot=lambda: host.boot, say=said.append, sleep=sleep)
    measured(link)
    before = board.processes()
    wire.cut()
    start = time.monotonic()
    # Nothing is told to either end: the host finds out, comes back, and the old agent has to go.
    assert measured(link)["median_ms"] >= 1.0
    seconds = time.monotonic() - start
    assert seconds < 15
    assert "SSH connection to board lost" in said[0] and "Waiting for it" in said[0]
    assert said[1:] == ["the board is back; continuing"]
    assert len(pauses) == 1
    now = board.processes()
    assert len(now) == 2 and not set(now) & set(before)
    link.close()
    wire.close()


@pytest.mark.slow
def test_a_lost_link_is_an_error_within_10_s(board: sshd.Board, reach: Reach) -> None:
    wire = Wire(board.port)
    with SshLink(reach(board, config=board.configure(port=wire.port)), RUNTIME) as link:
        measured(link)
        wire.cut()
        start = time.monotonic()
        with pytest.raises(LinkLost, match="SSH connection to .* lost .*not responding"):
            measured(link)
        assert time.monotonic() - start < 10
    wire.close()


def test_a_server_that_is_shot_is_a_lost_link(board: sshd.Board, reach: Reach) -> None:
    with SshLink(reach(board), RUNTIME) as link:
        measured(link)
        for pid in sessions(board):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(LinkLost, match="lost|closed"):
            measured(link)


def sessions(board: sshd.Board) -> list[int]:
    """The server's processes for the connections that are open."""
    assert board.process is not None
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == board.process.pid:
            found.append(int(folder.name))
    return found


# --- 34: two hosts, one board ---


def test_a_second_host_is_told_who_measures(board: sshd.Board, reach: Reach) -> None:
    first, second = reach(board), reach(board)
    with SshLink(first, RUNTIME) as link:
        measured(link)
        with pytest.raises(BoardError, match="one host at a time.*has done so since ..:.. .process [0-9]+"):
            SshLink(second, RUNTIME)
        measured(link)
    first.close()
    with SshLink(second, RUNTIME) as link:
        measured(link)


def test_agents_end_with_the_lease(board: sshd.Board, reach: Reach) -> None:
    host = reach(board)
    with SshLink(host, RUNTIME) as link:
        measured(link)
        assert host._keeper is not None
        keeper = json.loads((board.temporary / "hwnas.lease").read_text())["pid"]
        os.kill(keeper, signal.SIGKILL)
        assert gone_within(5, board)
        with pytest.raises(AgentGone):
            link.hello()
    with SshLink(host, RUNTIME) as link:  # the lease is taken again
        measured(link)


# --- 36: a login shell that talks ---


def test_a_noisy_login_shell_is_not_heard(new_board: NewBoard, reach: Reach) -> None:
    board = new_board()
    noise = "echo 'Welcome to this board!'; echo 'mail: 3 new' >&2; printf '\\000HWNAS\\000HWNAS-READY x'\n"
    for name in (".bashrc", ".profile", ".zshenv"):
        (board.home / name).write_text(noise)
    with SshLink(reach(board), RUNTIME) as link:
        assert measured(link)["median_ms"] >= 1.0


# --- 37: a clock that jumps ---


def test_a_clock_that_jumps_changes_no_timing(new_board: NewBoard, reach: Reach, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time, itertools\njumps = itertools.count()\ntime.time = lambda: 1e9 - 3600 * next(jumps)\n"
    )
    with SshLink(reach(new_board(PYTHONPATH=str(tmp_path))), RUNTIME) as link:
        assert 1.0 <= measured(link)["median_ms"] < 50


# --- 35 and 38: what the board holds back, and what it does not have ---


def test_throttling_is_told_with_each_cell(new_board: NewBoard, reach: Reach, tmp_path: Path) -> None:
    programs(tmp_path, vcgencmd="echo throttled=0x50005")
    board = new_board(PATH=f"{tmp_path}:{os.environ['PATH']}")
    with SshLink(reach(board), RUNTIME) as link:
        assert measured(link)["throttled"] == ["under-voltage", "throttled"]


def test_a_missing_provider_is_an_error(board: sshd.Board, reach: Reach) -> None:
    with (
        SshLink(reach(board), RUNTIME) as link,
        pytest.raises(CellError, match="no provider CUDAExecutionProvider, only cpu"),
    ):
        measured(link, provider="CUDAExecutionProvider")


# --- 39: out of memory ---


def test_a_cell_without_memory_failed_and_the_next_one_goes_on(board: sshd.Board, reach: Reach) -> None:
    with SshLink(reach(board), RUNTIME) as link:
        with pytest.raises(CellError, match="no memory left for the arena"):
            measured(link, b"memory")
        measured(link)


def test_an_agent_that_is_killed_twice_failed_at_that_cell_and_the_rest_goes_on(
    board: sshd.Board, reach: Reach
) -> None:
    host = reach(board)
    link = LastingLink(lambda: SshLink(host, RUNTIME), boot=lambda: host.boot)
    with pytest.raises(CellError, match="2 agents died of it, for lack of memory"):
        measured(link, b"die")
    measured(link)
    link.close()


def test_an_agent_that_is_killed_once_is_replaced(board: sshd.Board, reach: Reach, tmp_path: Path) -> None:
    host = reach(board)
    link = LastingLink(lambda: SshLink(host, RUNTIME), boot=lambda: host.boot)
    assert measured(link, b"die:" + str(tmp_path / "died").encode())["samples_ns"]
    assert (tmp_path / "died").exists()
    link.close()


# --- 40: a client that is killed ---


def test_a_killed_client_leaves_no_agent_behind_even_within_a_long_run(board: sshd.Board) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path\n"
        "from board.conftest import FAKE, RUNTIME\n"
        "from board.test_link import SshBoard, SshLink, measured, sshd\n"
        "host = SshBoard(sshd.HOST, config=Path(sys.argv[3]), plugin=lambda runtime: FAKE)\n"
        "link = SshLink(host, RUNTIME); measured(link)\n"
        "print('measured', flush=True); measured(link, b'slow')\n"
    )
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", code, str(tests), str(tests.parent), str(board.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None and client.stdout.readline() == b"measured\n"
        time.sleep(0.3)
        assert len(board.processes()) == 2
        client.kill()
    assert gone_within(5, board)
    assert not clients_of(board)


def clients_of(board: sshd.Board) -> list[int]:
    """ssh processes here that talk to the board; they have a moment to end."""
    for _ in range(30):
        found = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if (line := command_line(folder)).startswith(b"ssh\0") and str(board.folder).encode() in line
        ]
        if not found:
            break
        time.sleep(0.1)
    return found


def command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


# --- 33: boards that cannot run the agent, or not yet ---


def programs(folder: Path, **scripts: str) -> None:
    """Small shell programs that stand for the board's own."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def only(folder: Path, *names: str, **scripts: str) -> str:
    """A PATH that holds these of the system's programs, and these scripts."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    programs(folder, **scripts)
    return str(folder)


def test_an_old_python_is_refused(new_board: NewBoard, reach: Reach, tmp_path: Path) -> None:
    path = only(tmp_path / "bin", "sh", "cat", "uname", python3="echo 3.8.10 64 /usr/bin/python3")
    board = new_board(PATH=path, HWNAS_PYTHON="")
    with pytest.raises(
        BoardError, match="has Python 3.8; 3.9 or newer is needed.*apt install python3.9 python3.9-venv"
    ):
        reach(board).connect()


def test_a_newer_python_beside_an_old_one_is_taken(new_board: NewBoard, reach: Reach, tmp_path: Path) -> None:
    real = shlex.quote(sys.executable)
    path = only(
        tmp_path / "bin", "sh", "cat", "uname",
        python3="echo 3.8.10 64 /usr/bin/python3", **{"python3.11": f'exec {real} "$@"'},
    )  # fmt: skip
    host = reach(new_board(PATH=path, HWNAS_PYTHON=""))
    assert host.connect() and host._base == sys.executable


def test_no_python_is_refused(new_board: NewBoard, reach: Reach, tmp_path: Path) -> None:
    path = only(tmp_path / "bin", "sh", "cat", "uname")
    with pytest.raises(BoardError, match="has no python3; .*sudo apt install python3"):
        reach(new_board(PATH=path, HWNAS_PYTHON="")).connect()


@pytest.mark.parametrize(("machine", "bits"), [("armv7l", 32), ("aarch64", 32)])
def test_a_32_bit_system_is_refused_also_under_a_64_bit_kernel(
    machine: str, bits: int, new_board: NewBoard, reach: Reach, tmp_path: Path
) -> None:
    path = only(
        tmp_path / "bin", "sh", "cat",
        uname=f"echo {machine}", python3=f"echo 3.11.2 {bits} /usr/bin/python3",
    )  # fmt: skip
    with pytest.raises(BoardError, match=f"32-bit Python .{machine}"):
        reach(new_board(PATH=path, HWNAS_PYTHON="")).connect()


def test_a_runtime_that_crashes_on_import_is_an_error_that_names_the_signal(
    new_board: NewBoard, reach: Reach, tmp_path: Path
) -> None:
    plugin = tmp_path / "crashing.py"
    plugin.write_text("import os, signal\ndef probe():\n    os.kill(os.getpid(), signal.SIGILL)\n")
    with pytest.raises(BoardError, match="loading it fails with SIGILL"):
        SshLink(reach(new_board(), plugin=lambda runtime: plugin), RUNTIME)


def test_a_full_disk_on_the_board_is_an_error(board: sshd.Board, reach: Reach) -> None:
    (board.home / ".cache").write_text("a file where the folder should be")
    with pytest.raises(BoardError, match="hwnas.*(Not a directory|File exists)"):
        SshLink(reach(board), RUNTIME)
