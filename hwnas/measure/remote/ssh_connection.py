"""One connection to a board, by the system's own ssh: all commands share it, and it dies with us.

The user's ~/.ssh/config, agent and jump hosts hold. A host key is never accepted, a password never
asked for. The first session stays open for the whole connection and greets with what every board
can say (a shell is enough); later commands go through it (ControlMaster) and cost one round trip.
Files go through ssh as well: sftp breaks where a login shell prints something, and small systems
have none.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from hwnas.errors import BoardError, UsageError
from hwnas.measure.remote.pipes import LastWords, Outgoing
from hwnas.measure.remote.ssh_errors import LinkLost, explain
from hwnas.text import plain

__all__ = ["CONFIG_VARIABLE", "BoardPython", "Connection", "Greeting"]

CONFIG_VARIABLE = "HWNAS_SSH_CONFIG"
"""Names a file that stands for ~/.ssh/config."""
ALIVE_S = 2
ALIVE_COUNT = 3
"""A link over which nothing comes back is lost after ALIVE_S * (ALIVE_COUNT + 1) = 8 seconds."""
CONNECT_S = 10
GREETING_S = 30.0
GREETING_BYTES = 1024 * 1024
MOST_FACTS = 100
_PYTHON = re.compile(
    r"(?P<version>\d{1,3}\.\d{1,3}\S{0,20}) (?P<bits>32|64) (?P<path>/[^\x00-\x1f\x7f]{1,4000})"
)
_AGENT = re.compile(r"[0-9a-f]{16}")

_OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ConnectTimeout": str(CONNECT_S),
    "ConnectionAttempts": "1",
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": str(ALIVE_COUNT),
    "ControlPersist": "no",
    "ClearAllForwardings": "yes",
    "ForwardX11": "no",
    "ForwardAgent": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "LogLevel": "INFO",
}
_BEGIN, _END = "HWNAS-GREETING", "HWNAS-READY"
_PYTHONS = " ".join(["python3", *(f"python3.{minor}" for minor in range(14, 8, -1))])
_ASK_PYTHON = "import sys,struct;print(sys.version.split()[0],8*struct.calcsize(chr(80)),sys.executable)"
# One line without ' and !, so that any login shell hands it on unchanged.
_GREET = "; ".join(
    [
        f"echo {_BEGIN}",
        'echo "machine=$(uname -m)"',
        'echo "boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"',
        'echo "cache=${XDG_CACHE_HOME:-$HOME/.cache}/hwnas"',
        "for p in ${HWNAS_PYTHON:-" + _PYTHONS + "}",
        f'do v=$($p -c "{_ASK_PYTHON}" 2>/dev/null) && echo "python=$v"',
        "done",
        'for a in "${XDG_CACHE_HOME:-$HOME/.cache}"/hwnas/agent-*',
        'do echo "agent=${a##*/agent-}"',
        "done",
        f"echo {_END}",
        "exec cat >/dev/null",
    ]
)


@dataclass(frozen=True, slots=True)
class BoardPython:
    """A Python that is on the board."""

    version: tuple[int, ...]
    bits: int
    """Of its addresses: 32 on a 32-bit system, whatever the kernel is."""
    path: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a board says of itself when a connection is made."""

    machine: str
    """As `uname -m` says it."""
    boot: str
    """Another one after each boot; empty where the kernel has none."""
    cache: str
    """Where hwnas keeps its things on the board."""
    pythons: tuple[BoardPython, ...]
    """In the order in which they are preferred."""
    agents: tuple[str, ...]
    """Digests of the agents that are there."""


class Connection:
    """An open connection to `host`; `greeting` is what the board said."""

    def __init__(self, host: str, *, config: Path | None = None) -> None:
        """Connects. `config` stands for ~/.ssh/config; $HWNAS_SSH_CONFIG does too.

        Raises BoardError when the board cannot be reached or does not let us in, LinkLost (one of
        them) when that may pass; UsageError when `host` cannot be a host.
        """
        check_host(host)
        self.host = host
        self.sent_bytes = 0
        """To the board, without what ssh adds."""
        self._folder = _socket_folder()
        chosen = config or os.environ.get(CONFIG_VARIABLE)
        options = {**_OPTIONS, "ControlPath": str(self._folder / "s")}
        self._ssh = ["ssh", *(["-F", str(chosen)] if chosen else [])]
        self._ssh += [f"-o{name}={value}" for name, value in options.items()]
        command = [*self._ssh, "-oControlMaster=yes", "--", host, f"exec sh -c '{_GREET}'"]
        try:
            self._master = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except FileNotFoundError:
            self._drop_files()
            raise BoardError(
                "the program 'ssh' is not installed here. Run 'sudo apt install openssh-client'"
            ) from None
        self._last_words = LastWords(cast(BinaryIO, self._master.stderr))
        try:
            self.greeting = self._greet()
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether ssh still holds the connection; a lost link shows within 10 s."""
        return self._master.poll() is None

    def command(self, words: Sequence[str]) -> list[str]:
        """The local command that runs `words` on the board, and goes through this connection only."""
        remote = "exec " + shlex.join(words)
        # Without the connection it must fail: not silently open one of its own.
        return [*self._ssh, "-oControlMaster=no", "-oProxyCommand=false", "--", self.host, remote]

    def run(self, words: Sequence[str], *, data: bytes = b"", limit_s: float = 60.0) -> None:
        """Runs one command with `data` as its input; what it prints is dropped.

        Raises BoardError with its last words when it fails, LinkLost when the link is lost.
        """
        self.sent_bytes += len(data)
        ends_s = time.monotonic() + limit_s
        process = subprocess.Popen(
            self.command(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        last_words = LastWords(cast(BinaryIO, process.stderr))
        stdin = cast(BinaryIO, process.stdin)
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended, and its exit code says why
                Outgoing(stdin.fileno(), limit_s).write(data)
            stdin.close()
            code = process.wait(timeout=max(ends_s - time.monotonic(), 0.0))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise self.lost() or BoardError(
                f"{self.host}: '{Path(words[0]).name}' did not end within {limit_s:.0f} s"
            ) from None
        finally:
            process.kill()
            process.wait()
            stdin.close()
            last_words.close()
        if code:
            raise self.lost() or BoardError(
                f"{self.host}: '{Path(words[0]).name}' failed there: "
                f"{last_words.last_line() or f'exit code {code}'}"
            )

    def lost(self, *, patience_s: float = 1.0) -> BoardError | None:
        """Why the connection is lost, or None while ssh holds it."""
        try:
            self._master.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            return None
        error = explain(self._said(), self.host)
        return error if isinstance(error, LinkLost) else LinkLost(str(error))

    def close(self) -> None:
        """Ends the connection, and with it every command on the board."""
        for stream in (self._master.stdin, self._master.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
        try:
            self._master.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._master.terminate()
            try:
                self._master.wait(timeout=2)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
        self._last_words.close()
        self._drop_files()

    def _drop_files(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _greet(self) -> Greeting:
        """Reads the greeting; a login shell may print anything before it."""
        answers = cast(BinaryIO, self._master.stdout).fileno()
        deadline = time.monotonic() + CONNECT_S + GREETING_S
        text = b""
        while f"\n{_END}\n".encode() not in text:
            ready, _, _ = select.select([answers], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise LinkLost(
                    f"no response from {self.host} within {GREETING_S:.0f} s. Does "
                    f"'ssh {self.host} echo yes' print yes at once?"
                )
            part = os.read(answers, 65536)
            if not part:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._master.wait(timeout=max(deadline - time.monotonic(), 0))
                if self._master.returncode == 255 or _BEGIN.encode() in text:
                    raise explain(self._said(), self.host)
                printed = plain(text.decode(errors="replace").strip())[-200:]
                raise BoardError(
                    f"{self.host} did not run 'sh' at login: "
                    f"{self._last_words.last_line() or printed or 'nothing'}"
                )
            text += part
            if len(text) > GREETING_BYTES:
                raise BoardError(
                    f"{self.host} prints more than {GREETING_BYTES} bytes at login and does not run 'sh': "
                    f"does 'ssh {self.host} echo yes' print yes alone?"
                )
        return _parse(text.decode(errors="replace"), self.host)

    def _said(self) -> str:
        return self._last_words.text()


def check_host(host: str) -> None:
    """Raises UsageError when `host` cannot be one; ssh would take '-o...' for an option."""
    if not host or host.startswith("-") or not host.isprintable() or " " in host:
        raise UsageError(f"a host is 'local', 'user@board' or a name of ~/.ssh/config, got '{host}'")


def _parse(text: str, host: str) -> Greeting:
    lines = text[text.rfind(_BEGIN) :].splitlines()
    facts: dict[str, list[str]] = {}
    for line in lines:
        name, mark, value = line.partition("=")
        if mark:
            facts.setdefault(name, []).append(value.strip())
    pythons: dict[str, BoardPython] = {}
    for line in facts.get("python", [])[:MOST_FACTS]:
        if found := _PYTHON.fullmatch(line):
            numbers = tuple(int(part) for part in found["version"].split(".")[:2])
            pythons.setdefault(found["path"], BoardPython(numbers, int(found["bits"]), found["path"]))
    cache = facts.get("cache", [""])[0]
    if not cache.startswith("/") or not cache.isprintable():
        raise BoardError(f"{host} names no folder for files at login, got {plain(cache, most=60)!r}")
    return Greeting(
        machine=plain(facts.get("machine", [""])[0], most=60),
        boot=facts.get("boot", [""])[0],
        cache=cache,
        pythons=tuple(pythons.values()),
        agents=tuple(name for name in facts.get("agent", [])[:MOST_FACTS] if _AGENT.fullmatch(name)),
    )


def _socket_folder() -> Path:
    """A folder of ours alone; its path is short, as a socket's must be."""
    folder = tempfile.mkdtemp(prefix="hwnas-")
    if len(folder) > 70:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="hwnas-", dir="/tmp")
    return Path(folder)
