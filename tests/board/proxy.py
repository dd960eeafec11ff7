"""A wire that can be cut: a TCP proxy on loopback that stops handing anything on, without a word.

So a link dies on both ends as when a cable is pulled: nothing comes, and nobody is told.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Wire:
    """Leads from `port`, a new one on loopback, to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._dead: list[socket.socket] = []
        self._live: list[tuple[socket.socket, socket.socket]] = []
        self._cut = False
        self.bytes_to_target = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Nothing passes any more, also for who connects from now on."""
        self._cut = True

    def mend(self) -> None:
        """Who connects from now on gets through; what was open stays dead."""
        self._dead += [end for pair in self._live for end in pair]
        self._live = []
        self._cut = False

    def close(self) -> None:
        self._cut = True
        for end in (self._listener, *self._dead, *(end for pair in self._live for end in pair)):
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                pair = (near, far)
                self._live.append(pair)
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                for end in select.select([near, far], [], [])[0]:
                    data = end.recv(65536)
                    if self._cut or near in self._dead:
                        self._dead += [near, far]  # kept open: nobody is told
                        return
                    if not data:
                        near.close()
                        far.close()
                        return
                    if end is near:
                        self.bytes_to_target += len(data)
                    (far if end is near else near).sendall(data)
