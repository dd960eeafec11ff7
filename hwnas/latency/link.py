"""The host's end of an agent: starts it in a fresh process here, and speaks frames with it."""

from __future__ import annotations

import dataclasses
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, cast

from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.errors import BoardError, UsageError, did_you_mean

__all__ = ["CellError", "Link", "LocalLink"]

_BOOT = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import main; main(sys.argv[2])"
_HELLO_S = 60.0
_CELL_S = 300.0


class CellError(Exception):
    """The runtime could not run one model; the agent is fine."""


class Link(Protocol):
    """A running agent."""

    def hello(self) -> dict[str, Any]:
        """Its environment and what its runtime says of itself."""
        ...

    def measure(
        self, model: bytes, *, rules: Rules, threads: int, batch: int, precision: str
    ) -> dict[str, Any]:
        """Times one model; raises CellError when it does not run, BoardError when the agent is gone."""
        ...

    def close(self) -> None: ...


class LocalLink:
    """An agent in a process of its own on this machine. It ends when this end closes or dies."""

    def __init__(self, runtime: str) -> None:
        """Starts the agent with the runtime plug-in `runtime`; raises UsageError for an unknown one."""
        root = Path(__file__).resolve().parents[2]
        plugin = Path(__file__).resolve().parents[1] / "runtimes" / f"{runtime.replace('-', '_')}.py"
        if not plugin.is_file() or runtime.startswith("_"):
            known = sorted(f.stem.replace("_", "-") for f in plugin.parent.glob("*.py") if f.stem[0] != "_")
            raise UsageError(
                f"no runtime '{runtime}'.{did_you_mean(runtime, known)} Known: {', '.join(known)}"
            )
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the link
        # A session of its own: Ctrl-C is for the host, which ends the agent by closing its input.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(root), str(plugin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,
        )

    def hello(self) -> dict[str, Any]:
        return self._ask({"command": "hello"}, b"", _HELLO_S)

    def measure(
        self, model: bytes, *, rules: Rules, threads: int, batch: int, precision: str
    ) -> dict[str, Any]:
        command = {
            "command": "measure",
            "rules": dataclasses.asdict(rules),
            "threads": threads,
            "batch": batch,
            "precision": precision,
        }
        answer = self._ask(command, model, _CELL_S)
        if "error" in answer:
            raise CellError(str(answer["error"]))
        return answer

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

    def __enter__(self) -> LocalLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: dict[str, Any], payload: bytes, limit_s: float) -> dict[str, Any]:
        commands, answers = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        try:
            protocol.write_frame(commands, command, payload)
            ready, _, _ = select.select([answers], [], [], limit_s)
            if not ready:
                raise BoardError(f"the measuring process did not answer within {limit_s:.0f} s")
            frame = protocol.read_frame(answers)
        except (OSError, protocol.ProtocolError) as error:
            raise BoardError(f"the measuring process is gone ({error}){self._last_words()}") from None
        if frame is None:
            raise BoardError(f"the measuring process ended without an answer{self._last_words()}")
        return frame[0]

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""
