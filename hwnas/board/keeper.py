"""The keeper: holds the board's lease for one host while it lives, and makes the board ready.

It answers frames on stdin and stdout as the agent does: `hold` takes the lease, `ready` finds or
makes a Python with the runtime, `renew` says that the host is still there, `survey` says what the
board has. It ends with its input, or when the host has said nothing for LEASE_S: then the link is
lost, and another host may have the board. Agents end with the keeper that holds the lease.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

from hwnas.board import install, protocol, watch
from hwnas.board.lease import Lease
from hwnas.board.survey import survey

__all__ = ["LEASE_S", "main", "serve"]

LEASE_S = 600.0
"""Longer than the longest cell takes, with its model sent over a slow link."""


def serve(commands: BinaryIO, results: BinaryIO, *, cache: Path, lease_s: float = LEASE_S) -> None:
    """Answers commands until the input ends, says `quit`, or is silent for `lease_s` seconds."""
    lease = Lease()
    while True:
        heard, _, _ = select.select([commands], [], [], lease_s)
        frame = protocol.read_frame(commands) if heard else None
        if frame is None or frame[0].get("command") == "quit":
            return
        try:
            answer = _answer(frame[0], lease, cache, results)
        except install.InstallError as error:
            answer = {"error": str(error), "type": "InstallError"}
        except Exception as error:  # the host says what failed; the keeper stays
            answer = {"error": str(error) or type(error).__name__, "type": type(error).__name__}
        protocol.write_frame(results, answer)


def _answer(command: dict[str, Any], lease: Lease, cache: Path, results: BinaryIO) -> dict[str, Any]:
    name = command.get("command")
    if name == "hold":
        return {"held": lease.take(command["by"], command["session"]), "lease": str(lease.path)}
    if name == "ready":

        def say(text: str) -> None:
            protocol.write_frame(results, {"progress": text})

        return install.ready(command["runtime"], command["plugin"], cache, say=say)
    if name == "survey":
        return survey(command["runtime"], command["plugin"], cache)
    if name == "renew":
        return {"renewed": True}
    raise ValueError(f"unknown command {name!r}")


def main(cache: str) -> None:
    """Serves stdin and stdout; what is still installing ends with it."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)

    def end(code: int) -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    watch.end_with_input(0, grace_s=1.0, end=end)
    commands = os.fdopen(os.dup(0), "rb", buffering=0)  # unbuffered, so that select sees all there is
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(commands, results, cache=Path(cache))
    sys.exit(0)
