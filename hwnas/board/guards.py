"""What spoils timings on a board, seen: throttling, governor, clocks, heat and other load."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Guard", "governor", "state", "throttled_bits", "throttled_words"]

_CPU = "sys/devices/system/cpu"
_BITS = {
    0: "under-voltage",
    1: "arm frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


def throttled_bits(*, ask: Callable[[], str] | None = None) -> int | None:
    """The Raspberry Pi's throttling bits (0-3 now, 16-19 since boot); None on other boards."""
    try:
        text = _ask_vcgencmd() if ask is None else ask()
    except (OSError, subprocess.SubprocessError):
        return None
    _, _, value = text.partition("=")
    try:
        return int(value.strip(), 16)
    except ValueError:
        return None


def throttled_words(bits: int | None) -> tuple[str, ...]:
    """What of the bits is true now, in words."""
    return tuple(word for bit, word in _BITS.items() if bits is not None and bits >> bit & 1)


def governor(root: Path = Path("/")) -> str | None:
    """The frequency governor of the first CPU, or None where the kernel shows none."""
    return _text(root / _CPU / "cpu0/cpufreq/scaling_governor")


def state(root: Path = Path("/")) -> dict[str, float | int | None]:
    """Clocks (MHz, slowest CPU), temperature (Celsius, hottest zone), load and throttling bits."""
    clocks = [_number(path) for path in sorted((root / _CPU).glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))]
    zones = [_number(path) for path in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    known_clocks = [clock for clock in clocks if clock is not None]
    known_zones = [zone for zone in zones if zone is not None]
    load = _text(root / "proc/loadavg")
    return {
        "clock_mhz": min(known_clocks) / 1000 if known_clocks else None,
        "temperature_c": max(known_zones) / 1000 if known_zones else None,
        "load": float(load.split()[0]) if load else None,
        "throttled_bits": throttled_bits() if root == Path("/") else None,
    }


@dataclass
class Guard:
    """Watches one cell: whether the process got the CPU, and whether the board throttled.

    Used as a context manager; what it saw is there afterwards.
    """

    clock: Callable[[], float] = time.perf_counter
    cpu_clock: Callable[[], float] = time.process_time
    bits: Callable[[], int | None] = throttled_bits
    cpu_share: float = 1.0
    """CPU seconds of this process per second of wall clock; below 1 it had to wait."""
    throttled: tuple[str, ...] = ()
    """What throttled the board at the start or the end."""

    def __enter__(self) -> Guard:
        self._before = throttled_words(self.bits())
        self._wall, self._cpu = self.clock(), self.cpu_clock()
        return self

    def __exit__(self, *_: object) -> None:
        wall = self.clock() - self._wall
        self.cpu_share = (self.cpu_clock() - self._cpu) / wall if wall > 0 else 1.0
        after = throttled_words(self.bits())
        self.throttled = tuple(dict.fromkeys(self._before + after))


def _ask_vcgencmd() -> str:
    program = shutil.which("vcgencmd")
    if program is None:
        raise FileNotFoundError("vcgencmd")
    done = subprocess.run(
        [program, "get_throttled"],
        capture_output=True,
        text=True,
        timeout=5,
        check=True,
        env=dict(os.environ),
    )
    return done.stdout


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
