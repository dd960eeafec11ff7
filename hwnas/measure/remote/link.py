"""The host's end of an agent: starts it in a fresh process here, and speaks frames with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast

from hwnas import plugins
from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.measure.remote.answers import checked_hello, checked_times
from hwnas.measure.remote.pipes import MAX_ANSWER_BYTES, Incoming, LastWords, Outgoing
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.text import plain

__all__ = ["BOOT", "AgentGone", "AgentLink", "CellError", "Link", "LocalLink", "plugin_file"]

BOOT = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import main; main(sys.argv[2])"
_HELLO_S = 60.0
_CELL_S = 300.0
_END_S = 5.0


def _settings(profile: DeviceProfile) -> dict[str, Any]:
    """What of a profile the agent must know to run a model in it."""
    return {
        "threads": profile.threads,
        "batch": profile.batch,
        "precision": profile.precision,
        "provider": profile.provider,
    }


class CellError(Exception):
    """The runtime could not run one model; the agent is fine."""


class Link(Protocol):
    """A running agent."""

    def hello(self) -> dict[str, Any]:
        """Its environment and what its runtime says of itself."""
        ...

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        """Loads the model that others are timed beside; with b"" the last one afresh.

        Raises CellError when it does not run, BoardError when the agent is gone.
        """
        ...

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        """Times one model, `beside` the reference network or alone.

        Raises CellError when it does not run, BoardError when the agent is gone.
        """
        ...

    def close(self) -> None: ...


class AgentGone(BoardError):
    """The agent ended or does not answer; the machine that it ran on is still there."""


class AgentLink:
    """An agent behind the pipes of a process. It ends when this end closes or dies."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the process that is the agent, or that leads to it."""
        # A session of its own: Ctrl-C is for the host, which ends the agent by closing its input.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._last_words = LastWords(cast(BinaryIO, self._process.stderr))

    def hello(self) -> dict[str, Any]:
        return checked_hello(self._ask({"command": "hello"}, b"", _HELLO_S))

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        self._run({"command": "reference", **_settings(profile)}, model)

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        command = {"command": "measure", "rules": dataclasses.asdict(rules), "beside": beside}
        return checked_times(self._run({**command, **_settings(profile)}, model), beside=beside)

    def close(self) -> None:
        """Ends the agent: closes its input, and kills it when it does not go."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it started as well: a session of its own
            self._process.wait()
        self._last_words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, command: dict[str, Any], model: bytes) -> dict[str, Any]:
        answer = self._ask(command, model, _CELL_S)
        if "error" in answer:
            raise CellError(plain(str(answer["error"]), most=2000))
        return answer

    def _ask(self, command: dict[str, Any], payload: bytes, limit_s: float) -> dict[str, Any]:
        try:
            stdin = Outgoing(cast(BinaryIO, self._process.stdin).fileno(), limit_s)
            protocol.write_frame(cast(BinaryIO, stdin), command, payload)
        except TimeoutError:
            raise AgentGone(f"the measuring process took no data for {limit_s:.0f} s") from None
        except BrokenPipeError:  # what it said before it ended says why
            pass
        except (OSError, ValueError) as error:
            raise self._gone(f"is gone ({error})") from None
        return self._next(limit_s)

    def _next(self, limit_s: float) -> dict[str, Any]:
        """The next frame that comes, all of it within `limit_s`."""
        try:
            stdout = Incoming(cast(BinaryIO, self._process.stdout).fileno(), limit_s)
            frame = protocol.read_frame(cast(BinaryIO, stdout), most_bytes=MAX_ANSWER_BYTES)
        except TimeoutError:
            raise AgentGone(f"the measuring process did not answer within {limit_s:.0f} s") from None
        except (OSError, protocol.ProtocolError) as error:
            raise self._gone(f"is gone ({error})") from None
        if frame is None:
            raise self._gone("ended without an answer")
        return frame[0]

    def _gone(self, how: str) -> BoardError:
        """The error to raise when no more answers come."""
        said = self._last_words.last_line()
        return AgentGone(f"the measuring process {how}{said and ': '}{said}")


class LocalLink(AgentLink):
    """An agent in a process of its own on this machine."""

    def __init__(self, runtime: str) -> None:
        """Starts the agent with the runtime plug-in `runtime`; raises UsageError for an unknown one."""
        super().__init__([sys.executable, "-c", BOOT, str(plugins.PACKAGE.parent), str(plugin_file(runtime))])


def plugin_file(runtime: str) -> Path:
    """The file that is the runtime's plug-in. Raises UsageError for an unknown one."""
    return plugins.file_of("runtimes", runtime)
