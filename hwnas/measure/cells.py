"""Timing cells: each in turns with a reference network, verdicts on what was disturbed, all in the journal.

The reference network is one small network, the same in every cell: it tells how fast the machine was just
then, and a cell's milliseconds are what it would have taken at the middle speed of the build (see
speed.py). A verdict needs nothing but the journal's records, so a resumed build judges as one that was
never killed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwnas.board.timing import Rules, median
from hwnas.errors import UsageError
from hwnas.measure.cell_record import CellRecord
from hwnas.measure.remote.link import CellError, Link
from hwnas.measure.samples import Journal
from hwnas.predictors.latency.pace import Passes, fit_pace, fit_sharing
from hwnas.predictors.latency.profile import DeviceProfile

__all__ = [
    "NETWORK_RULES",
    "OP_RULES",
    "REFERENCE_CELL",
    "REFERENCE_EVERY",
    "Bench",
    "Timing",
    "judged",
    "passes_of",
    "timings",
]

REFERENCE_CELL = "reference"
OP_RULES = Rules(warmup_runs=6, warmup_s=0.005, warmup_limit_s=0.1, repeats=12, width=0.01, limit_s=0.1)
NETWORK_RULES = Rules(warmup_runs=6, warmup_s=0.02, warmup_limit_s=0.3, repeats=12, width=0.005, limit_s=0.35)
"""At least 12 repeats a pass: over three fresh processes the 30 that a median needs, and more."""

REFERENCE_EVERY = 10
"""Cells after which the reference network is loaded afresh: how fast a network is also depends on where in
memory it lies, and the reference network's luck must not be that of a whole pass."""
REFERENCE_LIMIT = 1.3
"""A cell is disturbed when the reference network took this many times what it takes beside the calm quarter
of all ops, or of all networks."""
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
STARVED_CELLS = 20
"""Cells that stay starved, if they are more than half of a process's, after which the others are timed once
each: others have the CPU for good."""
PAUSE_S = 5.0
"""Before cells that were disturbed are timed again."""


EFFECT_FROM = 10
"""Cells of a pass, each timed in other passes too, from which on the pass's own speed is told."""
PRIOR_PASSES = 2.0
"""How many passes' worth the deviation of all cells is, when one of few passes is estimated."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One cell over all passes, at the reference network's middle speed."""

    ms: float
    """The median of the passes, each at the speed of a middle pass."""
    passes: tuple[int, ...]
    """The passes in which it was timed, in order."""
    passes_ms: tuple[float, ...]
    """The median of each of them; the speed of a pass as a whole is left in."""
    clock_passes_ms: tuple[float, ...]
    """The same by the clock alone."""
    error: float
    """Standard error of `ms`, relative, from how the passes differ; infinite where no cell has two."""
    p95_ms: float
    disturbed: bool
    """Whether a pass stayed disturbed after all attempts."""

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median of the passes."""
        return (max(self.passes_ms) - min(self.passes_ms)) / median(self.passes_ms)


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
    stop: Callable[[], bool] = lambda: False
    """Asked before each cell; when it says so, the pass ends there."""
    failures: dict[str, str] = field(default_factory=dict)
    """Cells that do not run, and what the runtime said."""

    def run_pass(self, number: int, order: Sequence[str], *, attempt: int = 0) -> int:
        """Times, in one fresh process, what the journal does not hold undisturbed of one pass.

        How many cells it was to time. With attempt 0 cells that were disturbed are left as they are: later
        attempts time them again. Raises UsageError when the reference network does not run.
        """
        wanted = self.open_cells(number, order) if attempt else self._new_cells(number, order)
        if wanted and not self.stop():
            if attempt:
                random.Random(f"{number}/{attempt}").shuffle(wanted)
                self.sleep(PAUSE_S)
            self._run_process(number, wanted, attempt)
        return len(wanted)

    def _new_cells(self, number: int, order: Sequence[str]) -> list[str]:
        timed = {record["cell"] for record in self.journal.records if record["pass"] == number}
        return [name for name in order if name not in timed and name not in self.failures]

    def open_cells(self, number: int, order: Sequence[str]) -> list[str]:
        """Those of a pass that were not timed yet, or disturbed, in the order given."""
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
                if self.stop():
                    break
                if count % REFERENCE_EVERY == 0:
                    self._load_reference(link, b"" if count else self.models(REFERENCE_CELL))
                hopeless = starved >= STARVED_CELLS and 2 * starved > count
                for _ in range(1 if hopeless else 1 + STARVED_RETRIES):
                    if not self._time(link, name, number, process):
                        break
                else:
                    starved += 1
                self.report(name, attempt)
        finally:
            link.close()

    def _load_reference(self, link: Link, model: bytes) -> None:
        try:
            link.reference(model, profile=self.profile)
        except CellError as error:
            raise UsageError(
                "the reference network, which is timed beside all others, does not run in this "
                f"configuration: {error}"
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
        record = CellRecord.of_answer(
            answer,
            kind="network" if self.is_network(name) else "op",
            cell=name,
            pass_number=number,
            process=process,
        ).to_dict()
        self.journal.append(record)
        return _starved(record)


def judged(
    records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]
) -> list[tuple[Mapping[str, Any], bool]]:
    """Each record, and whether it was disturbed.

    It was when its process did not get the CPU, when the board throttled, when its median stayed far
    more uncertain than those of the calmest quarter of all ops (for an op) or of all networks, or when
    the reference network was far slower than beside that quarter: what the passes tell of shared slowness
    does not reach that far.
    """
    calm = {
        networks: tuple(
            _calm([record[field] for record in records if is_network(record["cell"]) == networks])
            for field in ("reference_ms", "reach")
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
        or record["reference_ms"] > REFERENCE_LIMIT * calm_ms
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
            name: [(record["median_ms"], record["reference_ms"]) for record, _ in passes]
            for name, passes in kept.items()
            if is_network(name) == networks
        }
        sharing, pace = fit_sharing(cells.values()), fit_pace(cells.values())
        found = {
            name: {
                record["pass"]: ms
                for (record, _), ms in zip(kept[name], sharing.at_middle_speed(cell, pace), strict=True)
            }
            for name, cell in cells.items()
        }
        effects = _pass_effects(found)
        steadied = {
            name: [ms / effects.get(number, 1.0) for number, ms in passes.items()]
            for name, passes in found.items()
        }
        pooled = _pooled_deviation(steadied.values())
        for name, passes in found.items():
            tails = [record["p95_ms"] / record["median_ms"] for record, _ in kept[name]]
            result[name] = Timing(
                ms=median(steadied[name]),
                passes=tuple(passes),
                passes_ms=tuple(passes.values()),
                clock_passes_ms=tuple(record["median_ms"] for record, _ in kept[name]),
                error=_standard_error(steadied[name], pooled),
                p95_ms=median(tails) * median(steadied[name]),
                disturbed=any(disturbed for _, disturbed in kept[name]),
            )
    return result


def _pass_effects(cells: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """By how much each pass was slower than a middle one, from all cells that it shares with others.

    A process has luck of its own, in where its memory lies and on which core it runs, which the reference
    network does not have in the same way. Passes with few such cells have no effect of their own.
    """
    logs = {
        name: {number: np.log(ms) for number, ms in passes.items()}
        for name, passes in cells.items()
        if len(passes) > 1
    }
    counts: dict[int, int] = {}
    for passes in logs.values():
        for number in passes:
            counts[number] = counts.get(number, 0) + 1
    effects = {number: 0.0 for number, count in sorted(counts.items()) if count >= EFFECT_FROM}
    for _ in range(_EFFECT_ROUNDS):
        left: dict[int, list[float]] = {number: [] for number in effects}
        for passes in logs.values():
            middle = median([value - effects.get(number, 0.0) for number, value in passes.items()])
            for number in passes.keys() & left.keys():
                left[number].append(passes[number] - middle)
        effects = {number: median(values) for number, values in left.items()}
        if effects:
            middle = median(list(effects.values()))
            effects = {number: effect - middle for number, effect in effects.items()}
    return {number: float(np.exp(effect)) for number, effect in effects.items()}


_EFFECT_ROUNDS = 5


def _pooled_deviation(cells: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation of one pass, relative, in the median of all cells with two passes or more."""
    deviations = [float(np.log(passes_ms).std(ddof=1)) for passes_ms in cells if len(passes_ms) > 1]
    return median(deviations) if deviations else None


def _standard_error(passes_ms: Sequence[float], pooled: float | None) -> float:
    """Of the median of the passes, relative; few passes are helped out by the deviation of all cells."""
    if pooled is None:
        return math.inf
    own = float(np.log(passes_ms).var(ddof=1)) if len(passes_ms) > 1 else 0.0
    degrees = len(passes_ms) - 1
    variance = (degrees * own + PRIOR_PASSES * pooled**2) / (degrees + PRIOR_PASSES)
    return float(_MEDIAN * np.sqrt(variance / len(passes_ms)))


_MEDIAN = 1.2533
"""sqrt(pi / 2): the standard error of a median over that of a mean, for normal values."""
