"""A board over ssh, ready to measure: connected, the agent's files sent, the lease held, a Python found.

Everything happens when the first agent is asked for, and again after the link was lost.
"""

from __future__ import annotations

import contextlib
import getpass
import gzip
import hashlib
import io
import socket
import tarfile
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.measure.remote.answers import HOLD, READY, SURVEY, checked, clock_time
from hwnas.measure.remote.link import AgentGone, AgentLink, plugin_file
from hwnas.measure.remote.ssh_connection import BoardPython, Connection, Greeting, check_host
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.text import plain

__all__ = [
    "OLDEST_PYTHON",
    "Keeper",
    "SshBoard",
    "SshLink",
    "UnfitBoardError",
    "bundle",
    "choose_python",
]

OLDEST_PYTHON = (3, 9)
RENEW_S = 20.0
"""So often, at most, the board is told that we are still there."""
_ANSWER_S = 60.0
_INSTALL_S = 3600.0
MOST_REPORTS = 100
"""Lines about one command; installing has three."""
_PLUGIN = "hwnas/runtimes/plugin.py"
_KEEPER = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.keeper import main; main(sys.argv[2])"


class UnfitBoardError(BoardError):
    """The board answers, but cannot run the agent as it is."""


def bundle(plugin: Path) -> bytes:
    """The files of hwnas.board and a runtime plug-in as a compressed tar, the same for the same files."""
    board = sorted((plugins.PACKAGE / "board").glob("*.py"))
    archive = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, file in [*((f"hwnas/board/{file.name}", file) for file in board), (_PLUGIN, plugin)]:
            data = file.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def choose_python(greeting: Greeting, host: str) -> BoardPython:
    """The Python that the agent runs on. Raises UnfitBoardError where the board has none that will do."""
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if greeting.machine in ("armv6l", "armv7l") or any(python.bits == 32 for python in greeting.pythons):
        raise UnfitBoardError(
            f"{host} has a 32-bit Python ({greeting.machine}): numpy and the runtimes have no packages "
            "for it. Install a 64-bit system, e.g. Raspberry Pi OS 64-bit"
        )
    if not greeting.pythons:
        raise UnfitBoardError(
            f"{host} has no python3; Python {oldest} or newer is needed. On the board, run "
            "'sudo apt install python3 python3-venv'"
        )
    for python in greeting.pythons:
        if python.version >= OLDEST_PYTHON:
            return python
    newest = max(greeting.pythons, key=lambda python: python.version)
    raise UnfitBoardError(
        f"{host} has Python {'.'.join(map(str, newest.version))}; {oldest} or newer is needed. On the board, "
        f"run 'sudo apt install python{oldest} python{oldest}-venv', or install a newer system"
    )


class Keeper(AgentLink):
    """The board's keeper (hwnas.board.keeper): it holds the lease and makes the board ready."""

    def __init__(self, connection: Connection, words: list[str]) -> None:
        super().__init__(connection.command(words))
        self._connection = connection

    def ask(
        self,
        command: str,
        *,
        shape: Mapping[str, Any] | None = None,
        limit_s: float | None = None,
        say: Callable[[str], None] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Its answer, which has that `shape` (hwnas.measure.remote.answers). `say` is told what it reports
        meanwhile.

        Raises BoardError with what went wrong on the board, or is wrong with the answer; LinkLost, AgentGone
        when it does not answer within `limit_s`.
        """
        limit_s = _ANSWER_S if limit_s is None else limit_s
        ends_s, reports = time.monotonic() + limit_s, 0
        answer = self._ask({"command": command, **more}, b"", limit_s)
        while "progress" in answer:
            reports += 1
            left_s = ends_s - time.monotonic()
            if reports > MOST_REPORTS or left_s <= 0:
                raise AgentGone(f"{self._connection.host} only reports, and does not end: {command}")
            if say is not None:
                say(plain(str(answer["progress"]), most=500))
            answer = self._next(left_s)
        if "error" in answer:
            raise BoardError(f"{self._connection.host}: {plain(str(answer['error']), most=2000)}")
        found: dict[str, Any] = checked(answer, shape or {}, who=self._connection.host)
        return found

    def _gone(self, how: str) -> BoardError:
        return self._connection.lost() or super()._gone(how)


class SshBoard:
    """One board, for one host at a time."""

    def __init__(
        self,
        host: str,
        *,
        config: Path | None = None,
        plugin: Callable[[str], Path] = plugin_file,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `plugin` finds the file of a runtime by its name.

        Raises UsageError for what cannot be a host.
        """
        check_host(host)
        self.host = host
        self._config, self._clock = config, clock
        self._plugin_file = plugin
        self._session = uuid.uuid4().hex
        self._connection: Connection | None = None
        self._keeper: Keeper | None = None
        self._renewed_s = 0.0
        self._folders: dict[str, str] = {}
        self._pythons: dict[str, str] = {}
        self._lease = ""
        self.sent_bytes = 0
        """Over all connections, models included."""

    @property
    def boot(self) -> str:
        """Another one after each boot of the board."""
        return "" if self._connection is None else self._connection.greeting.boot

    def agent_command(
        self, runtime: str, boot: str, *, say: Callable[[str], None] = lambda text: None
    ) -> list[str]:
        """The local command that leads to a fresh agent, started by the Python code `boot`.

        `boot` finds in sys.argv: the folder with hwnas, the plug-in's file, the lease's file. `say` is
        told what takes long. Raises BoardError when the board cannot be reached or made ready, or
        another host holds it; UsageError for an unknown runtime.
        """
        connection = self.connect()
        folder = self._send(runtime)
        keeper = self._held(folder)
        plugin = f"{folder}/{_PLUGIN}"
        if runtime not in self._pythons:
            ready = keeper.ask(
                "ready", shape=READY, runtime=runtime, plugin=plugin, say=say, limit_s=_INSTALL_S
            )
            self._pythons[runtime] = ready["python"]
        return connection.command([self._pythons[runtime], "-c", boot, folder, plugin, self._lease])

    def connect(self) -> Connection:
        """The connection, opened when there is none, to a board that can run the agent."""
        if self._connection is not None and self._connection.alive:
            return self._connection
        self.close()
        connection = Connection(self.host, config=self._config)
        # Whatever happens to us, no ssh is left running.
        weakref.finalize(self, connection.close)
        self._connection = connection
        self._base = choose_python(connection.greeting, self.host).path
        self._folders = {}
        return connection

    def survey(self, runtime: str) -> dict[str, Any]:
        """What the board has and lacks (hwnas.board.survey); the lease is not taken."""
        self.connect()
        folder = self._send(runtime)
        keeper = self._start_keeper(folder)
        try:
            plugin = f"{folder}/{_PLUGIN}"
            return keeper.ask("survey", shape=SURVEY, runtime=runtime, plugin=plugin, limit_s=600.0)
        finally:
            keeper.close()

    def renew(self) -> None:
        """Tells the board, not too often, that we are still there."""
        now_s = self._clock()
        if self._keeper is not None and now_s - self._renewed_s >= RENEW_S:
            self._keeper.ask("renew")
            self._renewed_s = now_s

    def lost(self) -> BoardError | None:
        """Why the connection is lost, or None while it is there."""
        return None if self._connection is None else self._connection.lost()

    def close(self) -> None:
        """Gives the board back."""
        if self._keeper is not None:
            self._keeper.close()
        if self._connection is not None:
            self._connection.close()
        self._keeper = self._connection = None

    def _held(self, folder: str) -> Keeper:
        """The keeper, with the lease taken."""
        if self._keeper is not None:
            with contextlib.suppress(AgentGone):
                self._keeper.ask("renew")
                self._renewed_s = self._clock()
                return self._keeper
            self._keeper.close()
            self._keeper = None
        keeper = self._start_keeper(folder)
        try:
            answer = keeper.ask("hold", shape=HOLD, by=_who(), session=self._session)
            if answer["held"] is not None:
                raise BoardError(_held_text(self.host, answer["held"]))
        except BaseException:
            keeper.close()
            raise
        self._keeper, self._lease = keeper, answer["lease"]
        self._renewed_s = self._clock()
        return keeper

    def _start_keeper(self, folder: str) -> Keeper:
        connection = self.connect()
        return Keeper(connection, [self._base, "-c", _KEEPER, folder, connection.greeting.cache])

    def _send(self, runtime: str) -> str:
        """The folder on the board with the agent's files and the runtime's; sent where it is not there."""
        if runtime not in self._folders:
            connection = self.connect()
            archive = bundle(self._plugin_file(runtime))
            digest = hashlib.sha256(archive).hexdigest()
            folder = f"{connection.greeting.cache}/agent-{digest[:16]}"
            if digest[:16] not in connection.greeting.agents:
                source = (plugins.PACKAGE / "board/unpack.py").read_text(encoding="utf-8")
                connection.run([self._base, "-c", source, folder, digest], data=archive)
                self.sent_bytes += len(archive)
            self._folders[runtime] = folder
        return self._folders[runtime]


def _who() -> str:
    """This user and machine, for whoever finds the board taken."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "another user"
    return f"{user}@{socket.gethostname()}"


def _held_text(host: str, other: dict[str, Any]) -> str:
    return (
        f"one host at a time may measure on {host}, but {other.get('by', 'another host')} has done so since "
        f"{clock_time(other.get('since_s'))} (process {other.get('pid')} on the board). Wait until it is "
        "done; a host that is gone frees the board after 10 minutes"
    )


# --- the agent on a board as a link -----------------------------------------------------------

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

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        self._board.renew()
        super().reference(model, profile=profile)

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
