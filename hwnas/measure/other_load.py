"""Other programs that use the CPU while something is timed: by name and share, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OtherLoad", "Program"]

LEAST_SHARE = 0.05
"""Of one core: programs below are not worth a name."""


@dataclass(frozen=True, slots=True)
class Program:
    """What one program used since the last look; all processes of its name together."""

    name: str
    share: float
    """Seconds of CPU per second: 1 is one whole core."""

    def __str__(self) -> str:
        return f"{self.name} {self.share:.0%} of a core"


class OtherLoad:
    """Watches all processes but this one, its ancestors and its descendants.

    Silent where there is no /proc.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        own: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc, self._clock = proc, clock
        self._own = os.getpid() if own is None else own
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self._last, self._last_s = self._used_ticks(), clock()

    def programs(self) -> tuple[Program, ...]:
        """What others used since the last call, the largest first; those that began or ended in between too,
        as far as they were seen twice."""
        now, now_s = self._used_ticks(), self._clock()
        elapsed_s = max(now_s - self._last_s, 1e-3)
        shares: dict[str, float] = {}
        for (pid, name), ticks in now.items():
            used_s = max(ticks - self._last.get((pid, name), ticks), 0) * self._tick_s
            shares[name] = shares.get(name, 0.0) + used_s / elapsed_s
        self._last, self._last_s = now, now_s
        found = [Program(name, share) for name, share in shares.items() if share >= LEAST_SHARE]
        return tuple(sorted(found, key=lambda one: (-one.share, one.name)))

    def _used_ticks(self) -> dict[tuple[int, str], int]:
        """CPU time of each other process, by id and name."""
        processes: dict[int, tuple[str, int, int]] = {}
        try:
            entries = [entry for entry in self._proc.iterdir() if entry.name.isdigit()]
        except OSError:
            return {}
        for entry in entries:
            try:
                head, _, tail = (entry / "stat").read_text(errors="replace").rpartition(")")
                fields = tail.split()
                parent, ticks = int(fields[1]), int(fields[11]) + int(fields[12])
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
            processes[int(entry.name)] = (head.partition("(")[2], parent, ticks)
        family = self._family({pid: parent for pid, (_, parent, _) in processes.items()})
        return {(pid, name): ticks for pid, (name, _, ticks) in processes.items() if pid not in family}

    def _family(self, parents: Mapping[int, int]) -> set[int]:
        """This process, its ancestors and its descendants."""
        family = {self._own}
        pid = self._own
        while (pid := parents.get(pid, 0)) > 0 and pid not in family:
            family.add(pid)
        descendants = {self._own}
        while new := {
            pid for pid, parent in parents.items() if parent in descendants and pid not in descendants
        }:
            descendants |= new
        return family | descendants
