"""Boards that lie: an agent that says anything, or nothing, is one clear error in bounded time and memory."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.board import install, protocol
from hwnas.board.agent import VERSION
from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.measure.remote import link as links
from hwnas.measure.remote import pipes, ssh_connection
from hwnas.measure.remote.answers import SURVEY, checked, clock_time
from hwnas.measure.remote.link import AgentLink, CellError
from hwnas.measure.remote.ssh_board import Keeper
from hwnas.predictors.latency.profile import DeviceProfile

PROFILE = DeviceProfile(board="b", runtime="onnxruntime")
LIMIT_S = 0.4

HELLO: dict[str, Any] = {
    "agent": VERSION,
    "environment": {"board": "Raspberry Pi 5", "cpu": "0xd0b"},
    "runtime": {"version": "1.20", "provider": "cpu", "providers": ["cpu"], "missing": None},
}
TIMES: dict[str, Any] = {
    "median_ms": 2.0,
    "low_ms": 1.9,
    "high_ms": 2.1,
    "p95_ms": 2.2,
    "reference_ms": 1.0,
    "samples_ns": [2e6, 2e6, 2e6],
    "warmup_ns": [3e6],
    "reference_ns": [1e6],
    "cold_ns": [2e6],
    "runs_per_repeat": 1,
    "steady": True,
    "cpu_share": 1.0,
    "throttled": [],
    "reach": 0.01,
}


def frame(header: Any, body: bytes = b"", **changed: int) -> bytes:
    """A frame as the protocol has it, with other sizes or another checksum where asked."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    fields = {"head": len(head), "payload": len(body), "deflated": 0} | changed
    sizes = struct.pack(">III", *(fields[name] for name in ("head", "payload", "deflated")))
    crc = fields.get("crc", zlib.crc32(body, zlib.crc32(sizes + head)))
    return protocol.MARK + sizes + struct.pack(">I", crc) + head + body


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AgentLink]:
    """An agent that says these bytes, then runs a command of the shell; waits for it are short."""
    monkeypatch.setattr(links, "_HELLO_S", LIMIT_S)
    monkeypatch.setattr(links, "_CELL_S", LIMIT_S)
    monkeypatch.setattr(links, "_END_S", LIMIT_S)

    def agent(said: bytes = b"", then: str = "exec 3>&1; exec cat >/dev/null") -> AgentLink:
        (tmp_path / "said").write_bytes(said)
        return AgentLink(["sh", "-c", f"cat {shlex.quote(str(tmp_path / 'said'))}; {then}"])

    return agent


GOOD = frame(HELLO)
DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"

LIES: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "exec 3>&1; exec cat >/dev/null", "did not answer within"),
    "its end": (b"", "exit 0", "ended without an answer"),
    "endless zeros": (b"", "exec cat /dev/zero", "no frame within"),
    "endless text": (b"", "exec yes", "no frame within"),
    "endless complaints": (b"", "exec yes complaint 3>&1 >&2", "did not answer within"),
    "one byte at a time": (b"", "while echo; do sleep 0.05; done", "did not answer within"),
    "half a mark": (protocol.MARK[:4], "exec 3>&1; exec cat >/dev/null", "did not answer within"),
    "half a head": (GOOD[:40], "exec 3>&1; exec cat >/dev/null", "did not answer within"),
    "half a head and its end": (GOOD[:40], "exit 0", "ended inside a frame"),
    "half a payload": (
        frame(HELLO, b"x" * 9)[:-4],
        "exec 3>&1; exec cat >/dev/null",
        "did not answer within",
    ),
    "a head of 1 GB": (frame(HELLO, head=2**30), "exec cat /dev/zero", "larger than the protocol"),
    "a payload of 1 GB": (frame(HELLO, payload=2**30), "exec cat /dev/zero", "larger than the protocol"),
    "a payload of 4 GB": (frame(HELLO, payload=2**32 - 1), "exec cat /dev/zero", "larger than the protocol"),
    "more than an answer": (
        frame(HELLO, payload=pipes.MAX_ANSWER_BYTES),
        "exec cat /dev/zero",
        "an answer has at most",
    ),
    "a bomb": (frame(HELLO, zlib.compress(bytes(2**26)), deflated=1), "exit 0", "larger than the protocol"),
    "a wrong checksum": (frame(HELLO, crc=1), "exit 0", "does not match its checksum"),
    "no JSON": (frame(b"\xff{"), "exit 0", "is not JSON"),
    "a list": (frame([1]), "exit 0", "must be an object"),
    "a deep nest": (frame(DEEP), "exit 0", "is not JSON"),
    "a nest that JSON allows": (
        frame({**HELLO, "environment": {**HELLO["environment"], "x": json.loads("[" * 600 + "]" * 600)}}),
        "exit 0",
        "nested too deeply|is not JSON",
    ),
    "an endless number": (frame(b'{"agent":' + b"9" * 5000 + b"}"), "exit 0", "is not JSON"),
    "another version": (frame(HELLO | {"agent": 7}), "exit 0", "speaks version 7"),
    "no version": (frame({"runtime": {}}), "exit 0", "agent is missing"),
    "a runtime of text": (frame(HELLO | {"runtime": "onnxruntime"}), "exit 0", "runtime must be a mapping"),
    "providers of numbers": (
        frame(HELLO | {"runtime": {**HELLO["runtime"], "providers": [1]}}),
        "exit 0",
        "runtime.providers.0 must be str",
    ),
    "an infinite load": (
        frame(HELLO | {"environment": {**HELLO["environment"], "load": float("inf")}}),
        "exit 0",
        "environment.load must be a finite number",
    ),
}
"""What a board says -> its bytes, what it does then, and what the error says."""


@pytest.mark.parametrize("lie", LIES)
def test_whatever_an_agent_says_is_one_clear_error_in_time(board: Callable[..., AgentLink], lie: str) -> None:
    said, then, told = LIES[lie]
    began = time.monotonic()
    with board(said, then) as link, pytest.raises(BoardError, match=told):
        link.hello()
    assert time.monotonic() - began < 20


def test_an_honest_agent_is_heard_behind_the_noise_of_a_login_shell(board: Callable[..., AgentLink]) -> None:
    with board(b"Welcome!\n" * 100 + GOOD) as link:
        assert link.hello() == HELLO


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("median_ms", float("nan"), "must be a finite number"),
        ("median_ms", -2.0, "must be above 0"),
        ("median_ms", 0, "must be above 0"),
        ("median_ms", 1e12, "must be at most"),
        ("median_ms", 10**400, "must be a finite number"),
        ("median_ms", 1.5, "the median of samples_ns 2"),
        ("reference_ms", 0.5, "the median of reference_ns 1"),
        ("median_ms", True, "must be a finite number"),
        ("p95_ms", "fast", "must be a finite number"),
        ("samples_ns", [2e6, float("inf"), 2e6], "must be a finite number"),
        ("samples_ns", [-2e6], "must be at least 0"),
        ("samples_ns", [], "is empty"),
        ("samples_ns", {"0": 2e6}, "must be a list"),
        ("cpu_share", 1e9, "must be at most"),
        ("runs_per_repeat", 1.5, "must be whole"),
        ("reach", -0.1, "must be at least 0"),
        ("throttled", "yes", "must be a list"),
    ],
)
def test_times_that_cannot_be_are_refused_with_the_field(
    board: Callable[..., AgentLink], field: str, value: Any, told: str
) -> None:
    with board(frame(TIMES)) as link:
        assert link.measure(b"", rules=Rules(), profile=PROFILE, beside=True)["median_ms"] == 2.0
    answer = frame(json.dumps(TIMES | {field: value}).encode())
    with board(answer) as link, pytest.raises(BoardError, match=f"{field}.*{told}"):
        link.measure(b"", rules=Rules(), profile=PROFILE, beside=True)
    missing = {name: one for name, one in TIMES.items() if name != field}
    with board(frame(missing)) as link, pytest.raises(BoardError, match=f"{field} is missing"):
        link.measure(b"", rules=Rules(), profile=PROFILE, beside=True)


@pytest.mark.parametrize(
    ("energy", "told"),
    [
        ({"energy_mj": float("nan"), "energy_meter": "rapl"}, "energy_mj must be a finite number"),
        ({"energy_mj": -1.0, "energy_meter": "rapl"}, "energy_mj must be at least 0"),
        ({"energy_mj": 5.0}, "energy_meter is missing"),
    ],
)
def test_energy_that_cannot_be_is_refused_with_the_field(
    board: Callable[..., AgentLink], energy: dict[str, Any], told: str
) -> None:
    answer = frame(json.dumps(TIMES | energy).encode())
    with board(answer) as link, pytest.raises(BoardError, match=told):
        link.measure(b"", rules=Rules(), profile=PROFILE, beside=True)


def test_escape_sequences_of_a_board_reach_no_terminal(board: Callable[..., AgentLink]) -> None:
    evil = "\x1b]0;owned\x07a\x1b[2Jb\x9b31mc\r\u202ed"
    answer = {**HELLO, "environment": {"board": evil, "cpu": None}}
    with board(frame(answer)) as link:
        assert link.hello()["environment"]["board"] == "abcd"
    with board(frame({"error": evil})) as link, pytest.raises(CellError, match="^abcd$"):
        link.measure(b"", rules=Rules(), profile=PROFILE)
    with (
        board(b"", "printf 'a\\033[2Jb' >&2; exit 1") as link,
        pytest.raises(BoardError, match=": ab$"),
    ):
        link.hello()


def test_an_agent_that_takes_no_data_is_not_waited_for(board: Callable[..., AgentLink]) -> None:
    with board(then="exec sleep 60") as link, pytest.raises(BoardError, match="took no data"):
        link.measure(bytes(2**24), rules=Rules(), profile=PROFILE)


def test_complaints_are_kept_to_their_end(board: Callable[..., AgentLink]) -> None:
    then = "yes complaint | head -c 3000000 >&2; echo the last one >&2; exit 1"
    with board(b"", then) as link, pytest.raises(BoardError, match=": the last one$"):
        link.hello()
    assert len(link._last_words._tail) <= 65536


# --- the keeper, and what a board says of itself at login -------------------------------------


class Loopback:
    """Stands for an ssh connection: the command is run here."""

    host = "board"

    def command(self, words: list[str]) -> list[str]:
        return words

    def lost(self) -> None:
        return None


def keeper(script: str) -> Keeper:
    return Keeper(Loopback(), ["sh", "-c", script])  # type: ignore[arg-type]


def test_a_keeper_that_reports_for_ever_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "report").write_bytes(frame({"progress": "\x1b[31mstill installing"}))
    heard: list[str] = []
    with (
        keeper(f"while cat {tmp_path / 'report'}; do :; done") as one,
        pytest.raises(BoardError, match="only reports"),
    ):
        one.ask("ready", limit_s=20, say=heard.append)
    assert set(heard) == {"still installing"} and len(heard) <= 100


@pytest.mark.parametrize(
    ("answer", "told"),
    [({}, "python is missing"), ({"python": 3}, "python must be str"), ({"error": "no"}, "board: no")],
)
def test_a_keepers_answer_has_its_fields(tmp_path: Path, answer: dict[str, Any], told: str) -> None:
    (tmp_path / "answer").write_bytes(frame(answer))
    with (
        keeper(f"exec 3>&1; cat {tmp_path / 'answer'}; exec cat >/dev/null") as one,
        pytest.raises(BoardError, match=told),
    ):
        one.ask("ready", shape={"python": str}, limit_s=20)


def test_a_survey_without_its_fields_is_refused() -> None:
    with pytest.raises(BoardError, match=r"environment\.cores is missing"):
        checked({**dict.fromkeys(SURVEY), "environment": {"board": "b", "cpu": "c"}}, SURVEY, who="b")


@pytest.mark.parametrize("since_s", [None, "noon", float("nan"), 1e30, -1e30])
def test_an_impossible_time_of_a_lease_is_no_crash(since_s: Any) -> None:
    assert clock_time(since_s) == "an unknown time"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["cache=relative"], "no folder"),
        (["cache=/c\x1b[2J"], "no folder"),
        ([], "no folder"),
    ],
)
def test_a_greeting_without_a_folder_is_refused(lines: list[str], told: str) -> None:
    with pytest.raises(BoardError, match=told):
        ssh_connection._parse("\n".join(["HWNAS-GREETING", *lines, "HWNAS-READY"]), "board")


def test_a_greeting_keeps_what_has_the_right_form_only() -> None:
    said = [
        "python=3.11.2 64 /usr/bin/python3",
        "python=evil",
        "python=3.11 sixty /usr/bin/python3",
        "python=3.11.2 64 relative",
        "agent=0123456789abcdef",
        "agent=../../etc",
    ]
    text = "\n".join(["HWNAS-GREETING", "cache=/c", "machine=aarch64\x1b[2J", *said * 300, "HWNAS-READY"])
    greeting = ssh_connection._parse(text, "board")
    assert [dataclasses.astuple(python) for python in greeting.pythons] == [((3, 11), 64, "/usr/bin/python3")]
    assert set(greeting.agents) == {"0123456789abcdef"} and greeting.machine == "aarch64"


# --- what is installed on a board -------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["", "PACKAGES = ()", "PACKAGES = ('-r', '/etc/passwd')", "PACKAGES = ('a b',)"]
)
def test_a_plug_ins_own_name_is_never_installed_on_a_board(tmp_path: Path, given: str) -> None:
    (tmp_path / "my_runtime.py").write_text(given + "\n")
    with pytest.raises(install.InstallError, match="names no packages"):
        install.packages("my_runtime", str(tmp_path / "my_runtime.py"))
    (tmp_path / "my_runtime.py").write_text("PACKAGES = ('numpy', 'my-runtime[cpu]>=1.2')\n")
    assert install.packages("my_runtime", str(tmp_path / "my_runtime.py")) == (
        "numpy",
        "my-runtime[cpu]>=1.2",
    )


def test_a_frame_is_read_from_any_stream_in_parts() -> None:
    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(min(count or 1, 3))

    assert protocol.read_frame(Slow(b"noise" + frame({"a": 1}, b"payload"))) == ({"a": 1}, b"payload")
