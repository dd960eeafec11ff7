"""What the system's ssh says when it fails, told apart: each cause with the rule and what to do next.

ssh exits with 255 whatever the cause; only its words differ. They are those of OpenSSH 7 to 10 in
the C locale.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hwnas.errors import BoardError

__all__ = ["LinkLost", "explain"]


class LinkLost(BoardError):
    """The board does not answer, now or any more: trying again may help."""


def explain(said: str, host: str) -> BoardError:
    """The error for what ssh printed while it reached, or lost, `host`."""
    for pattern, make in _CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return make(host, said)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = f"ssh says: {lines[-1]}" if lines else "ssh ended without a message"
    return LinkLost(f"SSH connection to {host} failed: {reason}. Try: ssh {host}")


def _changed_key(host: str, said: str) -> BoardError:
    shown = re.search(r"SHA256:[A-Za-z0-9+/=]+", said)
    known = re.search(r"^Offending .* key in (\S+):(\d+)", said, re.MULTILINE)
    place = f" ({known.group(1)}, line {known.group(2)})" if known else ""
    return BoardError(
        f"the host key of {host} has changed: another key is known{place}, the host sent another one"
        f"{f', {shown.group()}' if shown else ''}. It was reinstalled, or another machine answers. If you "
        f"know why, remove the old key with 'ssh-keygen -R {_name(host)}', then run 'ssh {host}' and compare "
        "the fingerprint"
    )


def _unknown_key(host: str, said: str) -> BoardError:
    return BoardError(
        f"the host key of {host} is not known, and hwnas accepts no key by itself. Run 'ssh {host}' once, "
        "compare the fingerprint and answer yes"
    )


def _wrong_key(host: str, said: str) -> BoardError:
    asked = re.search(r"Permission denied \(([^)]*)\)", said)
    ways = f" (accepted methods: {asked.group(1)})" if asked else ""
    return BoardError(
        f"SSH authentication failed: none of your keys was accepted by {host}{ways}. Run "
        f"'ssh-copy-id {host}', or set IdentityFile in ~/.ssh/config"
    )


def _locked_key(host: str, said: str) -> BoardError:
    return BoardError(
        f"SSH authentication failed for {host}: your key has a passphrase and no agent holds it. "
        "Run 'ssh-add' first"
    )


def _refused(host: str, said: str) -> BoardError:
    port = re.search(r"connect to host \S+ port (\d+)", said)
    return LinkLost(
        f"SSH connection refused by {host}"
        f"{f' on port {port.group(1)}' if port else ''}: no SSH server is running there. On the board, run "
        "'sudo systemctl enable --now ssh', or set the right port in ~/.ssh/config"
    )


def _unknown_name(host: str, said: str) -> BoardError:
    return LinkLost(
        f"unknown host {host}: no address was found for this name. Is the board on? Try its IP address, or "
        "NAME.local"
    )


def _unreachable(host: str, said: str) -> BoardError:
    return LinkLost(
        f"{host} is unreachable: no response. Is the board on, and in the same network? "
        f"Try: ping {_name(host)}"
    )


def _lost(host: str, said: str) -> BoardError:
    lines = [line.strip() for line in said.splitlines() if re.search(_LOST, line, re.IGNORECASE)]
    return LinkLost(f"SSH connection to {host} lost ({lines[-1]}). Is the board on, and in the same network?")


def _configuration(host: str, said: str) -> BoardError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return BoardError(f"the SSH configuration is invalid: {lines[-1]}. Try: ssh {host}")


_LOST = (
    "timeout, server .* not responding|connection (to .* )?(reset|closed|aborted)|broken pipe"
    "|closed by remote host|kex_exchange_identification|banner exchange|software caused connection abort"
)
_CAUSES: tuple[tuple[str, Callable[[str, str], BoardError]], ...] = (
    ("remote host identification has changed", _changed_key),
    ("no .*host key is known for|host key verification failed", _unknown_key),
    ("read_passphrase|incorrect passphrase|agent refused operation", _locked_key),
    ("permission denied|too many authentication failures|no more authentication methods", _wrong_key),
    ("bad configuration option|bad owner or permissions|unsupported option|missing argument", _configuration),
    ("connection refused", _refused),
    ("could not resolve hostname|name or service not known", _unknown_name),
    ("timed out|no route to host|network is unreachable|host is down", _unreachable),
    (_LOST, _lost),
)


def _name(host: str) -> str:
    """The host alone, of `user@host`."""
    return host.rpartition("@")[2]
