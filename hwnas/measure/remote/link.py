"""The host's end of an agent: starts it in a fresh process here, and speaks frames with it."""

from __future__ import annotations

import dataclasses
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, cast

from hwnas import plugins
from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.predictors.latency.profile import DeviceProfile

__all__ = ["BOOT", "AgentGone", "AgentLink", "CellError", "Link", "LocalLink", "plugin_file"]

BOOT = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import main; main(sys.argv[2])"
_HELLO_S = 60.0
_CELL_S = 300.0


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
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the link
        # A session of its own: Ctrl-C is for the host, which ends the agent by closing its input.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,
        )
        # Unbuffered, so that select sees all there is.
        stdout = cast(BinaryIO, self._process.stdout)
        self._answers = open(stdout.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115

    def hello(self) -> dict[str, Any]:
        return self._ask({"command": "hello"}, b"", _HELLO_S)

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        self._run({"command": "reference", **_settings(profile)}, model)

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        command = {"command": "measure", "rules": dataclasses.asdict(rules), "beside": beside}
        return self._run({**command, **_settings(profile)}, model)

    def close(self) -> None:
        """Ends the agent: closes its input, and kills it when it does not go."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, command: dict[str, Any], model: bytes) -> dict[str, Any]:
        answer = self._ask(command, model, _CELL_S)
        if "error" in answer:
            raise CellError(str(answer["error"]))
        return answer

    def _ask(self, command: dict[str, Any], payload: bytes, limit_s: float) -> dict[str, Any]:
        try:
            protocol.write_frame(cast(BinaryIO, self._process.stdin), command, payload)
        except OSError as error:
            raise self._gone(f"is gone ({error})") from None
        return self._next(limit_s)

    def _next(self, limit_s: float) -> dict[str, Any]:
        """The next frame that comes."""
        try:
            ready, _, _ = select.select([self._answers], [], [], limit_s)
            if not ready:
                raise AgentGone(f"the measuring process did not answer within {limit_s:.0f} s")
            frame = protocol.read_frame(cast(BinaryIO, self._answers))
        except (OSError, protocol.ProtocolError) as error:
            raise self._gone(f"is gone ({error})") from None
        if frame is None:
            raise self._gone("ended without an answer")
        return frame[0]

    def _gone(self, how: str) -> BoardError:
        """The error to raise when no more answers come."""
        return AgentGone(f"the measuring process {how}{self._last_words()}")

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


class LocalLink(AgentLink):
    """An agent in a process of its own on this machine."""

    def __init__(self, runtime: str) -> None:
        """Starts the agent with the runtime plug-in `runtime`; raises UsageError for an unknown one."""
        super().__init__([sys.executable, "-c", BOOT, str(plugins.PACKAGE.parent), str(plugin_file(runtime))])


def plugin_file(runtime: str) -> Path:
    """The file that is the runtime's plug-in. Raises UsageError for an unknown one."""
    return plugins.file_of("runtimes", runtime)
