"""A link that outlives its agent: a lost link is made again, and the cell in hand is timed anew.

An agent that dies of one model (a board out of memory kills it) is replaced: that cell failed, the
rest goes on. What has changed when the link is back, the board's boot or the runtime, is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hwnas.board.timing import Rules
from hwnas.errors import BoardError
from hwnas.measure.remote.link import AgentGone, CellError, Link
from hwnas.measure.remote.ssh_errors import LinkLost
from hwnas.predictors.latency.profile import DeviceProfile

__all__ = ["LastingLink"]

Answer = TypeVar("Answer")
PATIENCE_S = 600.0
"""How long a lost board is waited for: enough for one that starts again."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
DEATHS = 2
"""A model that as many agents died of does not run."""


class LastingLink:
    """A link like any other; see the file's first lines."""

    def __init__(
        self,
        start: Callable[[], Link],
        *,
        boot: Callable[[], str] = lambda: "",
        say: Callable[[str], None] = lambda text: None,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the first agent, without patience: a board that cannot be reached at all is an error.

        `boot` gives another text after each boot of the board; `say` is told of what goes wrong.
        """
        self._start, self._boot_now, self._say = start, boot, say
        self._patience_s, self._sleep, self._clock = patience_s, sleep, clock
        self._reference: tuple[bytes, DeviceProfile] | None = None
        self._runtime: dict[str, Any] | None = None
        self._lost_since_s: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._cold = False
        self._link: Link | None = start()
        self._boot = boot()

    def hello(self) -> dict[str, Any]:
        try:
            answer = self._lasting(lambda link: link.hello())
        except CellError as error:
            raise BoardError(f"the agent does not start: {error}") from None
        self._runtime = answer.get("runtime")
        return answer

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        known = model or (self._reference[0] if self._reference else b"")
        self._lasting(lambda link: link.reference(model, profile=profile), repeat_reference=not model)
        self._reference = (known, profile)

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        return self._lasting(lambda link: link.measure(model, rules=rules, profile=profile, beside=beside))

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _lasting(self, ask: Callable[[Link], Answer], *, repeat_reference: bool = True) -> Answer:
        """The answer, from a new agent where the one at hand does not live to give it."""
        deaths = 0
        while True:
            try:
                link = self._agent(repeat_reference)
                if self._cold:
                    ask(link)  # thrown away
                    self._cold = False
                answer = ask(link)
            except AgentGone as error:
                self.close()
                deaths += 1
                if deaths >= DEATHS:
                    raise CellError(f"{deaths} agents died of it, for lack of memory? {error}") from None
            except LinkLost as error:
                self.close()
                self._wait(error)
            else:
                self._lost_since_s = None
                return answer

    def _agent(self, repeat_reference: bool) -> Link:
        """The agent at hand, or a new one that has the reference network."""
        if self._link is not None:
            return self._link
        self._link = self._start()
        if self._lost_since_s is not None:
            self._say("the board is back; continuing")
        if self._runtime is not None:
            self._compare(self._link.hello().get("runtime", {}), self._runtime)
        if self._boot_now() != self._boot:
            self._say("the board rebooted: warming up again")
            self._boot, self._cold = self._boot_now(), True
        if self._reference is not None and repeat_reference:
            self._link.reference(self._reference[0], profile=self._reference[1])
        return self._link

    def _compare(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        for what in ("version", "provider"):
            if now.get(what) != before.get(what):
                raise BoardError(
                    f"one table holds one runtime, but the board came back with another {what}: it was "
                    f"{before.get(what)}, now it is {now.get(what)}. Build the table again"
                )

    def _wait(self, error: LinkLost) -> None:
        """A pause, longer each time. Raises the error when the board was waited for long enough."""
        if self._lost_since_s is None:
            self._lost_since_s, self._pause_s = self._clock(), FIRST_PAUSE_S
            self._say(f"{error}. Waiting for it for up to {self._patience_s / 60:.0f} minutes")
        if self._clock() + self._pause_s > self._lost_since_s + self._patience_s:
            raise error
        self._sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
