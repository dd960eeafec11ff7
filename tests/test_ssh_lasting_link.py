"""A link that outlives its agent: what it asks again, how long it waits, and what it gives up on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.link import AgentGone, CellError
from hwnas.measure.remote.ssh_errors import LinkLost
from hwnas.predictors.latency.profile import DeviceProfile

PROFILE = DeviceProfile(board="fake", runtime="fake")
LOST, GONE = LinkLost("the link is lost"), AgentGone("the agent ended")


@dataclass
class Board:
    """What happens to the calls made on it, in their order; anything not told of goes well."""

    calls: list[str] = field(default_factory=list)
    faults: dict[int, BoardError] = field(default_factory=dict)
    """Number of a call, closing not counted -> what it raises."""
    boot: str = "first"
    version: str = "1.0"
    now_s: float = 0.0
    said: list[str] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    def call(self, name: str) -> None:
        fault = self.faults.get(len(self.calls) - self.calls.count("close"))
        self.calls.append(name)
        if fault is not None:
            raise fault

    def start(self) -> Agent:
        self.call("start")
        return Agent(self)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep()

    def link(self) -> LastingLink:
        return LastingLink(
            self.start,
            boot=lambda: self.boot,
            say=self.said.append,
            patience_s=600,
            sleep=self.sleep,
            clock=lambda: self.now_s,
        )


@dataclass
class Agent:
    board: Board

    def hello(self) -> dict[str, Any]:
        self.board.call("hello")
        return {"runtime": {"version": self.board.version, "provider": "cpu"}}

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        self.board.call(f"reference {model.decode()}")

    def measure(self, model: bytes, **_: object) -> dict[str, Any]:
        self.board.call(f"measure {model.decode()}")
        return {"median_ms": 1.0}

    def close(self) -> None:
        self.board.calls.append("close")


def measure(link: LastingLink, model: bytes = b"a") -> dict[str, Any]:
    return link.measure(model, rules=Rules(), profile=PROFILE)


def test_where_nothing_goes_wrong_it_is_the_link_itself() -> None:
    board = Board()
    link = board.link()
    link.reference(b"c", profile=PROFILE)
    measure(link)
    link.close()
    assert board.calls == ["start", "reference c", "measure a", "close"]


def test_a_board_that_cannot_be_reached_at_first_is_an_error_at_once() -> None:
    board = Board(faults={0: LOST})
    with pytest.raises(LinkLost):
        board.link()
    assert board.now_s == 0


def test_after_a_lost_link_the_reference_network_is_loaded_and_the_cell_timed_again() -> None:
    board = Board(faults={2: LOST})
    link = board.link()
    link.reference(b"c", profile=PROFILE)
    measure(link)
    assert board.calls[2:] == ["measure a", "close", "start", "reference c", "measure a"]
    assert board.said == [
        "the link is lost. Waiting for it for up to 10 minutes",
        "the board is back; continuing",
    ]


def test_a_lost_board_is_waited_for_with_longer_and_longer_pauses_and_then_given_up() -> None:
    board = Board(faults=dict.fromkeys(range(1, 100), LOST))
    pauses: list[float] = []
    link = board.link()
    board.on_sleep = lambda: pauses.append(board.now_s)
    with pytest.raises(LinkLost):
        measure(link)
    assert pauses[:6] == [1, 3, 7, 15, 31, 61]
    assert 570 <= board.now_s <= 600


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    board = Board(faults={1: LOST, 2: BoardError("another host has the board")})
    link = board.link()
    with pytest.raises(BoardError, match="another host"):
        measure(link)


def test_a_board_that_was_started_anew_is_warmed_up_first() -> None:
    board = Board(faults={1: LOST})
    link = board.link()
    board.on_sleep = lambda: setattr(board, "boot", "second")
    measure(link)
    assert board.calls[2:] == ["close", "start", "measure a", "measure a"]
    assert board.said[-1] == "the board rebooted: warming up again"
    measure(link)
    assert board.calls[6:] == ["measure a"]


def test_a_board_that_comes_back_with_another_runtime_does_not_go_on() -> None:
    board = Board(faults={2: LOST})
    link = board.link()
    link.hello()
    board.on_sleep = lambda: setattr(board, "version", "2.0")
    with pytest.raises(BoardError, match="another version: it was 1.0, now it is 2.0"):
        measure(link)


def test_a_model_that_two_agents_died_of_does_not_run_and_the_next_one_does() -> None:
    board = Board(faults={1: GONE, 3: GONE})
    link = board.link()
    with pytest.raises(CellError, match="2 agents died of it, for lack of memory. the agent ended"):
        measure(link)
    assert board.calls == ["start", "measure a", "close", "start", "measure a", "close"]
    measure(link, b"b")
    assert board.calls[6:] == ["start", "measure b"]


def test_a_reference_network_to_be_loaded_afresh_is_sent_again_to_a_new_agent() -> None:
    board = Board(faults={2: GONE})
    link = board.link()
    link.reference(b"c", profile=PROFILE)
    link.reference(b"", profile=PROFILE)
    assert board.calls == [
        "start", "reference c", "reference ", "close", "start", "reference c", "reference ",
    ]  # fmt: skip
