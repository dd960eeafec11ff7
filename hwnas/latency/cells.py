"""Timing cells: the anchor between them, verdicts on what was disturbed, everything in the journal.

A verdict needs nothing but the journal's records in their order, so a resumed build judges as one
that was never killed.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwnas.board.guards import drift
from hwnas.board.timing import QUICK, Rules, median
from hwnas.latency.journal import Journal
from hwnas.latency.link import CellError, Link
from hwnas.latency.profile import DeviceProfile

__all__ = ["ANCHOR_CELL", "NETWORK_RULES", "OP_RULES", "Bench", "Timing", "timings"]

ANCHOR_CELL = "anchor"
OP_RULES = QUICK
NETWORK_RULES = Rules(warmup_runs=6, warmup_s=0.02, warmup_limit_s=0.5, repeats=15, width=0.01, limit_s=0.3)
"""At least 15 repeats a pass: over three fresh processes the 30 that a median needs, and more."""

DRIFT_LIMIT = 0.04
"""Cells between two anchors are disturbed when either is further than this from the reference."""
CPU_SHARE = 0.9
"""A cell is disturbed when its process had the CPU for less of the time."""
ANCHOR_EVERY = 25
"""Cells between two anchors."""
STARVED_RETRIES = 2
"""How often a cell whose process did not get the CPU is timed again on the spot."""
CALM_LIMIT_S = 60.0
"""How long measuring again waits for the anchor to come back to its reference."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One cell over all passes."""

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

        Each attempt is a fresh process. What is still disturbed after the last one stays so.
        """
        for attempt in range(attempts):
            wanted = self._open_cells(number, order)
            if not wanted:
                return
            if attempt:
                random.Random(f"{number}/{attempt}").shuffle(wanted)
            self._run_process(number, wanted, attempt)

    def _open_cells(self, number: int, order: Sequence[str]) -> list[str]:
        good = {
            record["cell"]
            for record, disturbed in judged(self.journal.records)
            if record["pass"] == number and not disturbed
        }
        return [name for name in order if name not in good and name not in self.failures]

    def _run_process(self, number: int, wanted: Sequence[str], attempt: int) -> None:
        process = 1 + max((record["process"] for record in self.journal.records), default=0)
        link = self.start()
        try:
            if attempt:
                self._wait_for_calm(link)
            for count, name in enumerate(wanted):
                if count % ANCHOR_EVERY == 0:
                    self._time(link, ANCHOR_CELL, number, process)
                for _ in range(1 + STARVED_RETRIES):
                    if not self._time(link, name, number, process):
                        break
                self.report(name, attempt)
            self._time(link, ANCHOR_CELL, number, process)
        finally:
            link.close()

    def _wait_for_calm(self, link: Link) -> None:
        """Waits until the anchor takes what it took when nothing disturbed, at most CALM_LIMIT_S."""
        reference = _reference_ms(self.journal.records)
        waited_s = 0.0
        while reference is not None and waited_s < CALM_LIMIT_S:
            answer = self._measure(link, ANCHOR_CELL, network=True)
            if drift(answer["median_ms"], reference) <= DRIFT_LIMIT and not _starved(answer):
                return
            self.sleep(5.0)
            waited_s += 5.0

    def _measure(self, link: Link, name: str, *, network: bool) -> dict[str, Any]:
        return link.measure(
            self.models(name),
            rules=NETWORK_RULES if network else OP_RULES,
            threads=self.profile.threads,
            batch=self.profile.batch,
            precision=self.profile.precision,
        )

    def _time(self, link: Link, name: str, number: int, process: int) -> bool:
        """Times one cell and writes it down; whether its process did not get the CPU."""
        network = name == ANCHOR_CELL or self.is_network(name)
        try:
            answer = self._measure(link, name, network=network)
        except CellError as error:
            if name == ANCHOR_CELL:
                raise
            self.failures[name] = str(error)
            return False
        kept = ("samples_ns", "warmup_ns", "runs_per_repeat", "steady", "cpu_share", "throttled")
        self.journal.append(
            {
                "pass": number,
                "process": process,
                "cell": name,
                "median_ms": answer["median_ms"],
                "p95_ms": answer["p95_ms"],
                **{field: answer[field] for field in kept},
            }
        )
        return _starved(answer)


def judged(records: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], bool]]:
    """Each cell's record (anchors left out), and whether it was disturbed.

    It was when an anchor next to it, in the same process, is off the reference, when its process
    did not get the CPU, or when the board throttled. The reference is the lower quartile of all
    anchors: what disturbs makes slower.
    """
    reference = _reference_ms(records)
    result: list[tuple[Mapping[str, Any], bool]] = []
    before: dict[int, bool] = {}  # process -> whether the last anchor was off
    pending: dict[int, list[int]] = {}  # process -> places in result since that anchor
    for record in records:
        process = record["process"]
        if record["cell"] == ANCHOR_CELL:
            off = reference is not None and drift(record["median_ms"], reference) > DRIFT_LIMIT
            if off:
                for place in pending.get(process, []):
                    result[place] = (result[place][0], True)
            before[process], pending[process] = off, []
            continue
        disturbed = before.get(process, False) or _starved(record) or bool(record["throttled"])
        pending.setdefault(process, []).append(len(result))
        result.append((record, disturbed))
    return result


def _reference_ms(records: Sequence[Mapping[str, Any]]) -> float | None:
    anchors = sorted(record["median_ms"] for record in records if record["cell"] == ANCHOR_CELL)
    return anchors[len(anchors) // 4] if anchors else None


def _starved(record: Mapping[str, Any]) -> bool:
    return bool(record["cpu_share"] < CPU_SHARE)


def timings(records: Sequence[Mapping[str, Any]]) -> dict[str, Timing]:
    """Each cell over its passes: of a pass the last undisturbed attempt, else the last one."""
    chosen: dict[str, dict[int, tuple[Mapping[str, Any], bool]]] = {}
    for record, disturbed in judged(records):
        passes = chosen.setdefault(record["cell"], {})
        held = passes.get(record["pass"])
        if held is None or held[1] or not disturbed:
            passes[record["pass"]] = (record, disturbed)
    result = {}
    for name, passes in chosen.items():
        kept = [passes[number] for number in sorted(passes)]
        result[name] = Timing(
            passes_ms=tuple(record["median_ms"] for record, _ in kept),
            p95_ms=median([record["p95_ms"] for record, _ in kept]),
            disturbed=any(disturbed for _, disturbed in kept),
        )
    return result
