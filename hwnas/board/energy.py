"""Energy of a network on boards that report it: RAPL on x86, INA3221 sensors or tegrastats on a Jetson.

RAPL counts energy. The Jetson's sensors report power, which is sampled while the network runs. Both
include what the chip or module takes anyway, idle power too: energy is what a battery would feel.

Sources: Linux, Documentation/power/powercap/powercap.rst; NVIDIA Jetson Linux Developer Guide, power
rails of each module and appendix on tegrastats.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PowerMeter", "Rapl", "find", "ina_rails", "measured", "meter_mj", "parse_tegrastats", "total_mw"]

_TOTALS = (("VDD_IN",), ("POM_5V_IN",))
"""Rails that hold the whole module: TX2, NX, Orin NX and Nano; Nano and TX1."""
_PARTS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Rails that add up to the module where none holds it all: AGX Orin; AGX Xavier."""
_SAMPLE_S = 0.02
_FEWEST_RUNS = 3
_RAIL = re.compile(r"(?<![\w@])([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?!\w)")


class Rapl:
    """Counters of the processor packages and of their memory."""

    name = "rapl"

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._before: list[int] = []

    @classmethod
    def find(cls, root: Path) -> Rapl | None:
        """None without RAPL, and where only root may read it (as on most kernels since 2020)."""
        zones = []
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
            name = _text(zone / "name")
            if name.startswith("package-") or name == "dram":
                zones.append(zone)
        if not zones or any(_number(zone / "energy_uj") is None for zone in zones):
            return None
        return cls(zones)

    def start(self) -> None:
        self._before = [self._read(zone) for zone in self._zones]

    def stop(self) -> float:
        """Joules since `start`; a counter may have begun again at 0 once."""
        total = 0
        for zone, before in zip(self._zones, self._before):  # noqa: B905 - Python 3.9
            gone = self._read(zone) - before
            total += gone if gone >= 0 else gone + (_number(zone / "max_energy_range_uj") or 0)
        return total / 1e6

    @staticmethod
    def _read(zone: Path) -> int:
        value = _number(zone / "energy_uj")
        if value is None:
            raise OSError(f"{zone / 'energy_uj'} can no longer be read")
        return value


class PowerMeter:
    """Power, sampled in a thread of its own and integrated."""

    def __init__(self, name: str, watts: Callable[[], float], *, every_s: float = _SAMPLE_S) -> None:
        """`watts` may block until the next sample comes; it is then `every_s` apart by itself."""
        self.name = name
        self._watts = watts
        self._every_s = every_s
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._samples, self._done = [(time.perf_counter(), self._watts())], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Joules since `start`, by the trapezoid rule."""
        end = time.perf_counter()
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        return integral(self._samples, end)

    def _sample(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                self._samples.append((time.perf_counter(), self._watts()))
            except OSError:
                return


def integral(samples: list[tuple[float, float]], end: float) -> float:
    """Joules of (seconds, watts) until `end`: trapezoids, the last power held until then."""
    total = 0.0
    for (before, low), (after, high) in zip(samples, samples[1:]):  # noqa: B905, RUF007 - Python 3.9
        if before < end:
            share = (min(after, end) - before) / (after - before) if after > before else 0.0
            total += share * (after - before) * (low + (low + (high - low) * share)) / 2
    last, watts = samples[-1]
    return total + max(end - last, 0.0) * watts


def find(root: Path = Path("/")) -> Rapl | PowerMeter | None:
    """What this board measures energy with; None where it tells nothing, or not to this user."""
    rapl = Rapl.find(root)
    if rapl is not None:
        return rapl
    if total_mw(ina_rails(root)) is not None:
        return PowerMeter("ina3221", lambda: _watts(ina_rails(root)))
    program = shutil.which("tegrastats") if root == Path("/") else None
    if program is None:
        return None
    return PowerMeter("tegrastats", lambda: _watts(parse_tegrastats(_tegrastats_line(program))), every_s=0.0)


def ina_rails(root: Path) -> dict[str, int]:
    """Milliwatts by rail from the INA3221 driver: hwmon (JetPack 5 and later) or iio (JetPack 4)."""
    rails: dict[str, int] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(chip / "name") != "ina3221":
            continue
        for label in sorted(chip.glob("in*_label")):
            channel = label.name[2 : -len("_label")]
            millivolts, milliamperes = (
                _number(chip / f"in{channel}_input"),
                _number(chip / f"curr{channel}_input"),
            )
            if millivolts is not None and milliamperes is not None:
                rails[_text(label)] = millivolts * milliamperes // 1000
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        milliwatts = _number(label.with_name(f"in_power{label.name[len('rail_name_') :]}_input"))
        if milliwatts is not None:
            rails[_text(label)] = milliwatts
    return rails


def parse_tegrastats(line: str) -> dict[str, int]:
    """Milliwatts by rail, as they are now, from a line of tegrastats: `VDD_IN 4521mW/4530mW`.

    Before JetPack 5 there is no unit. RAM, SWAP and IRAM have one of memory, and are left out.
    """
    return {name: int(now) for name, now in _RAIL.findall(line)}


def total_mw(rails: dict[str, int]) -> int | None:
    """What the whole module takes; None where its rails are unknown."""
    for names in _TOTALS + _PARTS:
        if all(name in rails for name in names):
            return sum(rails[name] for name in names)
    return None


def meter_mj(
    run: Callable[[], object],
    meter: Rapl | PowerMeter,
    *,
    seconds: float,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> float:
    """Millijoules of one run: the network runs for so many seconds, and three times at least."""
    run()
    meter.start()
    start, runs = clock(), 0
    while runs < _FEWEST_RUNS or clock() - start < seconds * 1e9:
        run()
        runs += 1
    return 1000 * meter.stop() / runs


def measured(
    run: Callable[[], object], *, seconds: float, clock: Callable[[], int] = time.perf_counter_ns
) -> dict[str, float | str]:
    """`energy_mj` of one run and `energy_meter` for an answer; empty where the board has no meter."""
    meter = find()
    if meter is None:
        return {}
    try:
        return {"energy_mj": meter_mj(run, meter, seconds=seconds, clock=clock), "energy_meter": meter.name}
    except OSError:  # a sensor that no longer answers must not cost the timing
        return {}


def _watts(rails: dict[str, int]) -> float:
    milliwatts = total_mw(rails)
    if milliwatts is None:
        raise OSError("the power sensor no longer answers")
    return milliwatts / 1000


def _tegrastats_line(program: str) -> str:
    """The first line that it prints, after 100 ms."""
    with subprocess.Popen(
        [program, "--interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            return process.stdout.readline() if process.stdout else ""
        finally:
            process.kill()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
