"""Timing cells: each in turns with a companion, verdicts on what was disturbed, all in the journal.

The companion is one small network, the same in every cell: it tells how fast the machine was just
then, and a cell's milliseconds are what it would have taken at the middle speed of the build (see
speed.py). A verdict needs nothing but the journal's records, so a resumed build judges as one that was
never killed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwnas.board.timing import Rules, median
from hwnas.errors import UnstableError, UsageError
from hwnas.measure.remote.link import CellError, Link
from hwnas.measure.samples import Journal
from hwnas.predictors.latency.pace import Passes, fit_pace, fit_sharing
from hwnas.predictors.latency.profile import DeviceProfile

__all__ = [
    "COMPANION_CELL",
    "COMPANION_EVERY",
    "NETWORK_RULES",
    "OP_RULES",
    "Bench",
    "Timing",
    "judged",
    "passes_of",
    "timings",
]

COMPANION_CELL = "companion"
OP_RULES = Rules(warmup_runs=6, warmup_s=0.005, warmup_limit_s=0.1, repeats=12, width=0.01, limit_s=0.1)
NETWORK_RULES = Rules(warmup_runs=6, warmup_s=0.02, warmup_limit_s=0.3, repeats=12, width=0.005, limit_s=0.35)
"""At least 12 repeats a pass: over three fresh processes the 30 that a median needs, and more."""

COMPANION_EVERY = 10
"""Cells after which the companion is loaded afresh: how fast a network is also depends on where in
memory it lies, and the companion's luck must not be that of a whole pass."""
COMPANION_LIMIT = 1.3
"""A cell is disturbed when the companion took this many times what it takes beside the calmest quarter of
all ops, or of all networks."""
REACH_LIMIT = 0.05
"""A cell is disturbed when its median is known no better than this,"""
REACH_TIMES = 4.0
"""and no better than this many times what the calmest quarter of all ops, or of all networks, is known to:
what a runtime always has is no disturbance (eager torch's ops are known to 3.4 % there, ONNX Runtime's to
1 %)."""
CPU_SHARE = 0.9
"""A cell is disturbed when its process had the CPU for less of the time."""
STARVED_RETRIES = 2
"""How often a cell whose process did not get the CPU is timed again on the spot."""
HOPELESS_CELLS = 20
"""Cells that stay starved, if they are more than half, after which measuring gives up."""
PAUSE_S = 5.0
"""Before cells that were disturbed are timed again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One cell over all passes, at the companion's middle speed."""

    passes_ms: tuple[float, ...]
    """The median of each pass, in the order of passes."""
    p95_ms: float
    disturbed: bool
    """Whether a pass stayed disturbed after all attempts."""

    @property
    def ms(self) -> float:
        return median(self.passes_ms)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median of the passes."""
        return (max(self.passes_ms) - min(self.passes_ms)) / self.ms


@dataclass
class Bench:
    """Times cells by name and writes them down; `models` gives a cell's model."""

    journal: Journal
    start: Callable[[], Link]
    """Starts a fresh agent."""
    models: Callable[[str], bytes]
    is_network: Callable[[str], bool]
    profile: DeviceProfile
    report: Callable[[str, int], None] = lambda name, attempt: None
    """Told of each cell when it is done."""
    sleep: Callable[[float], None] = time.sleep
    failures: dict[str, str] = field(default_factory=dict)
    """Cells that do not run, and what the runtime said."""

    def run_pass(self, number: int, order: Sequence[str], *, attempts: int = 4) -> None:
        """Times what the journal does not hold yet of one pass, and again what was disturbed.

        Each attempt is a fresh process. What is still disturbed after the last one stays so. Raises
        UnstableError when others have the CPU most of the time, UsageError when the companion does not run.
        """
        for attempt in range(attempts):
            wanted = self._open_cells(number, order)
            if not wanted:
                return
            if attempt:
                random.Random(f"{number}/{attempt}").shuffle(wanted)
                self.sleep(PAUSE_S)
            self._run_process(number, wanted, attempt)

    def _open_cells(self, number: int, order: Sequence[str]) -> list[str]:
        good = {
            record["cell"]
            for record, disturbed in judged(self.journal.records, self.is_network)
            if record["pass"] == number and not disturbed
        }
        return [name for name in order if name not in good and name not in self.failures]

    def _run_process(self, number: int, wanted: Sequence[str], attempt: int) -> None:
        process = 1 + max((record["process"] for record in self.journal.records), default=0)
        link = self.start()
        starved = 0
        try:
            for count, name in enumerate(wanted):
                if count % COMPANION_EVERY == 0:
                    self._load_companion(link, b"" if count else self.models(COMPANION_CELL))
                for _ in range(1 + STARVED_RETRIES):
                    if not self._time(link, name, number, process):
                        break
                else:
                    starved += 1
                    if starved >= HOPELESS_CELLS and 2 * starved > count:
                        raise UnstableError(
                            f"the measuring process must get the CPU, but in {starved} of {count + 1} cells "
                            "it did not, also when they were timed again: end other programs and go on"
                        )
                self.report(name, attempt)
        finally:
            link.close()

    def _load_companion(self, link: Link, model: bytes) -> None:
        try:
            link.companion(model, profile=self.profile)
        except CellError as error:
            raise UsageError(
                "the network that everything is timed beside must run in the configuration asked for, but "
                f"does not: {error}"
            ) from None

    def _time(self, link: Link, name: str, number: int, process: int) -> bool:
        """Times one cell and writes it down; whether its process did not get the CPU."""
        try:
            answer = link.measure(
                self.models(name),
                rules=NETWORK_RULES if self.is_network(name) else OP_RULES,
                profile=self.profile,
                beside=True,
            )
        except CellError as error:
            self.failures[name] = str(error)
            return False
        self.journal.append(
            {
                "pass": number,
                "process": process,
                "cell": name,
                **{field: answer[field] for field in _KEPT},
            }
        )
        return _starved(answer)


_KEPT = (
    "median_ms",
    "reach",
    "p95_ms",
    "companion_ms",
    "samples_ns",
    "companion_ns",
    "cold_ns",
    "warmup_ns",
    "runs_per_repeat",
    "steady",
    "cpu_share",
    "throttled",
)


def judged(
    records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]
) -> list[tuple[Mapping[str, Any], bool]]:
    """Each record, and whether it was disturbed.

    It was when its process did not get the CPU, when the board throttled, when its median stayed far
    more uncertain than those of the calmest quarter of all ops (for an op) or of all networks, or when
    the companion was far slower than beside that quarter: what the passes tell of shared slowness does
    not reach that far.
    """
    calm = {
        networks: tuple(
            _calm([record[field] for record in records if is_network(record["cell"]) == networks])
            for field in ("companion_ms", "reach")
        )
        for networks in (False, True)
    }
    return [(record, _disturbed(record, *calm[is_network(record["cell"])])) for record in records]


def _calm(values: Sequence[float]) -> float:
    """The lower quartile."""
    return float(sorted(values)[len(values) // 4]) if values else 0.0


def _disturbed(record: Mapping[str, Any], calm_ms: float, calm_reach: float) -> bool:
    return bool(
        _starved(record)
        or record["throttled"]
        or record["companion_ms"] > COMPANION_LIMIT * calm_ms
        or record["reach"] > max(REACH_LIMIT, REACH_TIMES * calm_reach)
    )


def _starved(record: Mapping[str, Any]) -> bool:
    return bool(record["cpu_share"] < CPU_SHARE)


def passes_of(
    records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]
) -> dict[str, list[tuple[Mapping[str, Any], bool]]]:
    """Each cell's passes in their order: the record that counts, and whether it was disturbed.

    Of a pass the last undisturbed attempt counts, else the last one.
    """
    chosen: dict[str, dict[int, tuple[Mapping[str, Any], bool]]] = {}
    for record, disturbed in judged(records, is_network):
        passes = chosen.setdefault(record["cell"], {})
        held = passes.get(record["pass"])
        if held is None or held[1] or not disturbed:
            passes[record["pass"]] = (record, disturbed)
    return {name: [passes[number] for number in sorted(passes)] for name, passes in chosen.items()}


def timings(records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]) -> dict[str, Timing]:
    """Each cell over its passes, at the machine's middle speed."""
    kept = passes_of(records, is_network)
    result = {}
    for networks in (False, True):
        cells: dict[str, Passes] = {
            name: [(record["median_ms"], record["companion_ms"]) for record, _ in passes]
            for name, passes in kept.items()
            if is_network(name) == networks
        }
        sharing, pace = fit_sharing(cells.values()), fit_pace(cells.values())
        for name, cell in cells.items():
            passes_ms = sharing.at_middle_speed(cell, pace)
            tails = [record["p95_ms"] / record["median_ms"] for record, _ in kept[name]]
            result[name] = Timing(
                passes_ms=passes_ms,
                p95_ms=median(tails) * median(passes_ms),
                disturbed=any(disturbed for _, disturbed in kept[name]),
            )
    return result
