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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import BoardError
from hwnas.latency.link import AgentGone, AgentLink, plugin_file
from hwnas.latency.ssh_connection import BoardPython, Connection, Greeting, check_host

__all__ = ["OLDEST_PYTHON", "Bundle", "Keeper", "SshBoard", "UnfitBoardError", "bundle", "choose_python"]

OLDEST_PYTHON = (3, 9)
RENEW_S = 20.0
"""So often, at most, the board is told that we are still there."""
_INSTALL_S = 3600.0
_KEEPER = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.keeper import main; main(sys.argv[2])"


class UnfitBoardError(BoardError):
    """The board answers, but cannot run the agent as it is."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The agent's files as they travel."""

    archive: bytes
    """A compressed tar, the same for the same files."""
    plugin: str
    """The runtime plug-in's path within it."""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()


def bundle(plugin: Path) -> Bundle:
    """The files of hwnas.board and one runtime plug-in."""
    root = Path(__file__).resolve().parents[2]
    inside = f"hwnas/runtimes/{plugin.name}"
    files = {f"hwnas/board/{file.name}": file for file in sorted((root / "hwnas/board").glob("*.py"))}
    archive = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=archive, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, file in [*files.items(), (inside, plugin)]:
            data = file.read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return Bundle(archive.getvalue(), inside)


def choose_python(greeting: Greeting, host: str) -> BoardPython:
    """The Python that the agent runs on. Raises UnfitBoardError where the board has none that will do."""
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if greeting.machine in ("armv6l", "armv7l") or any(python.bits == 32 for python in greeting.pythons):
        raise UnfitBoardError(
            f"{host} must run a 64-bit system, but its Python is a 32-bit one ({greeting.machine}): neither "
            "numpy nor the runtimes have packages for it. Install a 64-bit system (Raspberry Pi OS 64-bit)"
        )
    if not greeting.pythons:
        raise UnfitBoardError(
            f"{host} must have Python {oldest} or newer, but has no python3. On the board: "
            "sudo apt install python3 python3-venv"
        )
    for python in greeting.pythons:
        if python.version >= OLDEST_PYTHON:
            return python
    newest = max(greeting.pythons, key=lambda python: python.version)
    raise UnfitBoardError(
        f"{host} must have Python {oldest} or newer, but has {'.'.join(map(str, newest.version))}. On the "
        f"board: sudo apt install python{oldest} python{oldest}-venv, or install a newer system"
    )


class Keeper(AgentLink):
    """The board's keeper (hwnas.board.keeper): it holds the lease and makes the board ready."""

    def __init__(self, connection: Connection, words: list[str]) -> None:
        super().__init__(connection.command(words))
        self._connection = connection

    def ask(
        self, command: str, *, limit_s: float = 60.0, say: Callable[[str], None] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Its answer. `say` is told what it reports meanwhile.

        Raises BoardError with what went wrong on the board; LinkLost, AgentGone when it does not answer.
        """
        answer = self._ask({"command": command, **more}, b"", limit_s)
        while "progress" in answer:
            if say is not None:
                say(answer["progress"])
            answer = self._next(limit_s)
        if "error" in answer:
            raise BoardError(f"{self._connection.host}: {answer['error']}")
        return answer

    def _gone(self, how: str) -> BoardError:
        return self._connection.lost() or super()._gone(how)


class SshBoard:
    """One board and one runtime; `agent()` starts a fresh agent there."""

    def __init__(
        self,
        host: str,
        runtime: str,
        *,
        config: Path | None = None,
        plugin: Path | None = None,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `say` is told what takes long.

        Raises UsageError for an unknown runtime and for what cannot be a host.
        """
        check_host(host)
        self.host, self.runtime = host, runtime
        self._config, self._say, self._clock = config, say, clock
        self._bundle = bundle(plugin or plugin_file(runtime))
        self._session = uuid.uuid4().hex
        self._connection: Connection | None = None
        self._keeper: Keeper | None = None
        self._renewed_s = 0.0
        self._python = ""
        self.lease = ""
        self.sent_bytes = 0
        """Over all connections, models included."""

    @property
    def boot(self) -> str:
        """Another one after each boot of the board."""
        return "" if self._connection is None else self._connection.greeting.boot

    def agent_command(self, boot: str) -> list[str]:
        """The local command that leads to a fresh agent, started by the Python code `boot`.

        Raises BoardError when the board cannot be reached or made ready, or another host holds it.
        """
        connection = self.connect()
        keeper = self._held()
        if not self._python:
            self._python = keeper.ask(
                "ready", runtime=self.runtime, plugin=self._on_board(self._bundle.plugin), say=self._say,
                limit_s=_INSTALL_S,
            )["python"]  # fmt: skip
        plugin = self._on_board(self._bundle.plugin)
        return connection.command([self._python, "-c", boot, self._folder, plugin, self.lease])

    def connect(self) -> Connection:
        """The connection, opened when there is none, with the agent's files on the board."""
        if self._connection is not None and self._connection.alive:
            return self._connection
        self.close()
        connection = Connection(self.host, config=self._config)
        # Whatever happens to us, no ssh is left running.
        weakref.finalize(self, connection.close)
        self._connection = connection
        self._base = choose_python(connection.greeting, self.host).path
        self._folder = f"{connection.greeting.cache}/agent-{self._bundle.digest[:16]}"
        if self._bundle.digest[:16] not in connection.greeting.agents:
            source = (Path(__file__).resolve().parents[1] / "board/unpack.py").read_text(encoding="utf-8")
            archive = self._bundle.archive
            connection.run([self._base, "-c", source, self._folder, self._bundle.digest], data=archive)
            self.sent_bytes += len(archive)
        return connection

    def survey(self) -> dict[str, Any]:
        """What the board has and lacks (hwnas.board.survey); the lease is not taken."""
        keeper = self._start_keeper()
        try:
            plugin = self._on_board(self._bundle.plugin)
            return keeper.ask("survey", runtime=self.runtime, plugin=plugin, limit_s=600.0)
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

    def _held(self) -> Keeper:
        """The keeper, with the lease taken."""
        if self._keeper is not None:
            with contextlib.suppress(AgentGone):
                self._keeper.ask("renew")
                self._renewed_s = self._clock()
                return self._keeper
            self._keeper.close()
            self._keeper = None
        keeper = self._start_keeper()
        try:
            answer = keeper.ask("hold", by=_who(), session=self._session)
            if answer["held"] is not None:
                raise BoardError(_held_text(self.host, answer["held"]))
        except BaseException:
            keeper.close()
            raise
        self._keeper, self.lease = keeper, answer["lease"]
        self._renewed_s = self._clock()
        return keeper

    def _start_keeper(self) -> Keeper:
        connection = self.connect()
        return Keeper(connection, [self._base, "-c", _KEEPER, self._folder, connection.greeting.cache])

    def _on_board(self, path: str) -> str:
        return f"{self._folder}/{path}"


def _who() -> str:
    """This user and machine, for whoever finds the board taken."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _held_text(host: str, other: dict[str, Any]) -> str:
    since = time.strftime("%H:%M", time.localtime(float(other.get("since_s", 0))))
    return (
        f"one host at a time may measure on {host}, but {other.get('by', 'another host')} has done so since "
        f"{since} (process {other.get('pid')} on the board). Wait until it is done; a host that is gone "
        "frees the board after 10 minutes"
    )
