"""What ssh says when it fails, in the words of OpenSSH, and what we make of it."""

from __future__ import annotations

import pytest

from hwnas.errors import BoardError
from hwnas.measure.remote.ssh_errors import LinkLost, explain

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
The fingerprint for the ED25519 key sent by the remote host is
SHA256:JnMRJCqtYZsackpRtr9l6wwGszGGNgIPy55wFa3ciWk.
Offending ED25519 key in /home/marie/.ssh/known_hosts:12
Host key for pi has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """\
No ED25519 host key is known for pi and you have requested strict checking.
Host key verification failed.
"""


@pytest.mark.parametrize(
    ("said", "told", "may_pass"),
    [
        (
            "ssh: connect to host pi port 22: Connection refused\n",
            "connection refused by marie@pi on port 22",
            True,
        ),
        (
            "marie@pi: Permission denied (publickey,password).\n",
            "accepted methods: publickey,password",
            False,
        ),
        ("Received disconnect from pi: Too many authentication failures\n", "ssh-copy-id marie@pi", False),
        (
            CHANGED,
            r"known_hosts, line 12\), the host sent another one, SHA256:JnMRJ.*ssh-keygen -R pi'",
            False,
        ),
        (UNKNOWN, "is not known, and hwnas accepts no key by itself", False),
        ("ssh: Could not resolve hostname pi: Name or service not known\n", "no address was found", True),
        ("ssh: connect to host pi port 22: Connection timed out\n", "no response.*ping pi", True),
        ("ssh: connect to host pi port 22: No route to host\n", "no response", True),
        ("Timeout, server pi not responding.\r\n", "lost .Timeout, server pi not responding", True),
        ("client_loop: send disconnect: Broken pipe\n", "lost", True),
        ("Connection to pi closed by remote host.\n", "lost", True),
        ("kex_exchange_identification: Connection closed by remote host\n", "lost", True),
        (
            "/home/marie/.ssh/config: line 3: Bad configuration option: prot\n",
            "Bad configuration option",
            False,
        ),
        ("something new\n", "ssh says: something new. Try: ssh marie@pi", True),
        ("", "ended without a message", True),
    ],
)
def test_each_cause_has_its_own_message(said: str, told: str, may_pass: bool) -> None:
    error = explain(said, "marie@pi")
    with pytest.raises(BoardError, match=told):
        raise error
    assert isinstance(error, LinkLost) == may_pass
    assert error.exit_code == 4


def test_a_banner_before_it_changes_nothing() -> None:
    banner = "*** Authorised use only. Access may be refused. ***\n"
    assert "none of your keys was accepted" in str(
        explain(banner + "pi: Permission denied (publickey).\n", "pi")
    )
