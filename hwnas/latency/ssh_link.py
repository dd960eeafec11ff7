"""An agent on a board over ssh: a link like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.latency.link import AgentLink
from hwnas.latency.profile import DeviceProfile
from hwnas.latency.ssh_board import SshBoard

__all__ = ["SshLink"]

_BOOT = (
    "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import main; "
    "main(sys.argv[2], lease=sys.argv[3])"
)


class SshLink(AgentLink):
    """A fresh agent on a board. It ends when the link does, or the board's lease."""

    def __init__(
        self, board: SshBoard, runtime: str, *, say: Callable[[str], None] = lambda text: None
    ) -> None:
        """Starts the agent, and makes the board ready first where it is not: `say` is told of it.

        Raises BoardError when the board cannot be reached or made ready, or another host holds it.
        """
        super().__init__(board.agent_command(runtime, _BOOT, say=say))
        self._board = board

    def companion(self, model: bytes, *, profile: DeviceProfile) -> None:
        self._board.renew()
        super().companion(model, profile=profile)

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        self._board.renew()
        return super().measure(model, rules=rules, profile=profile, beside=beside)

    def _ask(self, command: dict[str, Any], payload: bytes, limit_s: float) -> dict[str, Any]:
        """Asks with the payload deflated; the board inflates it before it times anything."""
        if payload and not isinstance(payload, protocol.Deflated):
            payload = protocol.deflated(payload)
        self._board.sent_bytes += len(payload)
        return super()._ask(command, payload, limit_s)

    def _gone(self, how: str) -> BoardError:
        return self._board.lost() or super()._gone(how)
