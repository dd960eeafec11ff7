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
    reason = f"ssh says: {lines[-1]}" if lines else "ssh ended without a word"
    return LinkLost(f"{host} must be reachable by ssh, but {reason}. Try: ssh {host}")


def _changed_key(host: str, said: str) -> BoardError:
    shown = re.search(r"SHA256:[A-Za-z0-9+/=]+", said)
    known = re.search(r"^Offending .* key in (\S+):(\d+)", said, re.MULTILINE)
    place = f" ({known.group(1)}, line {known.group(2)})" if known else ""
    return BoardError(
        f"{host} must show the host key that you know{place}, but it shows another one"
        f"{f', {shown.group()}' if shown else ''}: it was installed anew, or another machine answers. If you "
        f"know why, remove the old key with 'ssh-keygen -R {_name(host)}', then 'ssh {host}' and compare "
        "the fingerprint"
    )


def _unknown_key(host: str, said: str) -> BoardError:
    return BoardError(
        f"{host} must have a host key that you know, but this one is not known, and hwnas accepts none by "
        f"itself. Run 'ssh {host}' once, compare the fingerprint and answer yes"
    )


def _wrong_key(host: str, said: str) -> BoardError:
    asked = re.search(r"Permission denied \(([^)]*)\)", said)
    ways = f" (it takes: {asked.group(1)})" if asked else ""
    return BoardError(
        f"{host} must let you in by a key, but it takes none of yours{ways}. Send it yours with "
        f"'ssh-copy-id {host}', or name the key in ~/.ssh/config (IdentityFile)"
    )


def _locked_key(host: str, said: str) -> BoardError:
    return BoardError(
        f"{host} must let you in without a question, but your key has a passphrase and no agent holds it. "
        "Run 'ssh-add' first"
    )


def _refused(host: str, said: str) -> BoardError:
    port = re.search(r"connect to host \S+ port (\d+)", said)
    return LinkLost(
        f"{host} must run an ssh server, but it refuses the connection"
        f"{f' to port {port.group(1)}' if port else ''}. On the board: "
        "'sudo systemctl enable --now ssh'; or give the right port in ~/.ssh/config"
    )


def _unknown_name(host: str, said: str) -> BoardError:
    return LinkLost(
        f"{host} must be a name that is known here, but no address is found for it. Is the board on? "
        "Try its address, or NAME.local"
    )


def _unreachable(host: str, said: str) -> BoardError:
    return LinkLost(
        f"{host} must answer within some seconds, but nothing came back. Is the board on, and in the same "
        f"network? Try: ping {_name(host)}"
    )


def _lost(host: str, said: str) -> BoardError:
    lines = [line.strip() for line in said.splitlines() if re.search(_LOST, line, re.IGNORECASE)]
    return LinkLost(
        f"the link to {host} must stay up, but it is lost ({lines[-1]}). Is the board on, and in the network?"
    )


def _configuration(host: str, said: str) -> BoardError:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return BoardError(f"ssh's own configuration must be right, but it says: {lines[-1]}. Try: ssh {host}")


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
