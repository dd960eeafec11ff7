"""A board of our own: a private ssh server on loopback, with its own keys, port and home folder.

It needs the programs of openssh-server and openssh-client, and no rights: the server runs as whoever
runs the tests, who is also the one that logs in.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "board"
"""Its name in the ssh configuration made here."""


def why_not() -> str | None:
    """What is missing to run a server here, or None."""
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    if server() is None:
        missing.append("sshd")
    if missing:
        return f"needs {', '.join(missing)}: apt-get install openssh-server openssh-client"
    return None


def server() -> str | None:
    """The server's program; it lies where a user's PATH does not reach."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclasses.dataclass
class Board:
    """One server; `config` is the ssh configuration that reaches it as HOST."""

    folder: Path
    settings: dict[str, str] = dataclasses.field(default_factory=dict)
    """What the environment of every session on the board holds besides."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.temporary = self.folder / "tmp"
        for folder in (self.home, self.temporary):
            folder.mkdir(parents=True)
        for name in ("host_key", "user_key", "other_key", "new_host_key"):
            run("ssh-keygen", "-qt", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name))
        (self.folder / "authorized").write_text((self.folder / "user_key.pub").read_text())
        (self.folder / "authorized").chmod(0o600)
        self.port = self.port or free_port()
        self.know("host_key")
        self.start()

    @property
    def config(self) -> Path:
        return self.configure()

    def configure(self, *, key: str = "user_key", port: int | None = None) -> Path:
        """An ssh configuration in which HOST is this board, reached with `key` over `port`."""
        port = port or self.port
        file = self.folder / f"config-{key}-{port}"
        file.write_text(
            f"Host {HOST}\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
            f" IdentityFile {self.folder / key}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" HostKeyAlias {HOST}\n UserKnownHostsFile {self.folder / 'known'}\n"
            " GlobalKnownHostsFile /dev/null\n"
        )
        return file

    def know(self, key: str | None) -> None:
        """Which host key the client knows for HOST."""
        text = "" if key is None else (self.folder / f"{key}.pub").read_text()
        (self.folder / "known").write_text(f"{HOST} {' '.join(text.split()[:2])}\n" if text else "")

    def start(self, *, host_key: str = "host_key") -> None:
        """Starts the server, and waits until it listens."""
        settings = {
            "HOME": self.home,
            "TMPDIR": self.temporary,
            "XDG_CACHE_HOME": self.home / ".cache",
            "HWNAS_PYTHON": sys.executable,
            **self.settings,
        }
        words = " ".join(f'"{name}={value}"' for name, value in settings.items())
        conf = self.folder / "sshd_config"
        conf.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder / host_key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.folder / 'authorized'}\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
            f"PermitRootLogin prohibit-password\nMaxSessions 20\nSetEnv {words}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = server()
        assert program is not None
        self.log = self.folder / "log"
        self.process = subprocess.Popen(
            [program, "-D", "-f", str(conf), "-E", str(self.log)], start_new_session=True
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")

    def stop(self) -> None:
        """Stops the server; sessions that are open stay open."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def processes(self) -> list[int]:
        """Processes that run the agent's or the keeper's files on this board."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.home).encode() in line and b"hwnas.board" in line and not line.startswith(b"ssh"):
                found.append(int(folder.name))
        return sorted(found)

    def end(self) -> None:
        """Stops the server and whatever still runs on the board."""
        self.stop()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def package_index() -> dict[str, str]:
    """What pip is told here, for a board to be told the same."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower().endswith("_proxy") or name == "SSL_CERT_FILE"
    }
    found.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache/pip"))
    own = Path.home() / ".config/pip/pip.conf"
    if own.exists():
        found.setdefault("PIP_CONFIG_FILE", str(own))
    return found


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
