"""Measuring a plan's cells within a time budget: all passes, then again what is uncertain.

First every pass of the plan. Then cells that were disturbed are timed again, up to three times. With a
budget, what is left of it goes to cells whose passes disagree: further passes time only them, each in a
fresh process, with some steady networks beside them that tell the speed of the process. A budget that ends
early ends the plan's passes too, once there is what a table needs: one pass of everything, and a second of
the networks.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.measure.cells import Bench, Timing, passes_of, timings
from hwnas.measure.models import Models
from hwnas.measure.noise import noise_of
from hwnas.measure.other_load import OtherLoad
from hwnas.measure.plan import Plan
from hwnas.measure.remote.link import Link
from hwnas.measure.samples import Journal
from hwnas.predictors.latency.pace import Pace, fit_pace
from hwnas.predictors.latency.profile import DeviceProfile

if TYPE_CHECKING:
    from hwnas.export.timing import Exporter

__all__ = ["MeasuredCells", "Progress", "measure_plan", "network_pace"]

Progress = Callable[[str, int, int, str], None]
"""Callback(phase, done, total or 0 if unknown, item)."""

ATTEMPTS = 4
"""Timings of a cell that stays disturbed, in one pass."""
HOPELESS = 0.8
"""When a larger share of the cells timed again stays disturbed, timing them once more is no use,"""
HOPELESS_FROM = 20
"""where there are so many of them: a few cost little, and a board may cool meanwhile."""
NETWORK_ERROR = 0.0075
"""Standard error of a network's time, relative, above which a further pass times it."""
OP_ERROR = 0.02
"""The same of an op: a network is a sum of many."""
ANCHORS = 12
"""Steady networks in every further pass."""
FURTHER_PASSES = 16
"""At most."""
FURTHER_S = 60.0
"""About what a further pass takes at most: then it is seen anew which cells disagree."""
DISTURBING_SHARE = 0.25
"""Of a core: other programs that use more together are reported."""


@dataclass(frozen=True, slots=True)
class MeasuredCells:
    """What a plan's cells took, over all passes."""

    timings: Mapping[str, Timing]
    """By op key or network label."""
    pace: Pace | None
    """How fast the machine was while whole networks were timed."""
    failures: Mapping[str, str]
    """Cells that did not run, and what the runtime said."""


class _Budget:
    """The seconds that measuring may take; without end where none are given."""

    def __init__(self, seconds: float | None, *, used_s: float, clock: Callable[[], float]) -> None:
        self.is_limited = seconds is not None
        self._clock = clock
        self._start = clock() - used_s
        self._seconds = math.inf if seconds is None else seconds

    @property
    def left_s(self) -> float:
        return self._seconds - (self._clock() - self._start)

    @property
    def is_over(self) -> bool:
        return self.left_s <= 0


def measure_plan(
    plan: Plan,
    *,
    name: str,
    profile: DeviceProfile,
    exporter: Exporter,
    start: Callable[[], Link],
    samples: Path,
    resume: bool = False,
    elsewhere: bool = False,
    budget_s: float | None = None,
    progress: Progress = lambda phase, done, total, item: None,
    say: Callable[[str], None] = lambda sentence: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> MeasuredCells:
    """Measures the cells of the plan, as part of a device called `name`; arguments as of `build_table`.

    Models are exported before the first timing, or `elsewhere` beside it. Raises as `build_table` does.
    """
    question = {
        "name": name,
        **profile.settings(),
        "plan": plan.digest,
        "passes": plan.passes,
        "seed": plan.seed,
    }
    folder = samples.with_name(f".{name}.models")
    with Journal(samples, question, resume=resume) as journal:
        models = Models(plan, exporter, profile.batch, folder, deflate=elsewhere)
        networks = {label for label, _ in plan.networks + plan.watched}
        bench = Bench(journal, start, models, networks.__contains__, profile, sleep=sleep)
        work = _Work(plan, bench, progress, say, None if elsewhere else OtherLoad())
        used_s = plan.measuring_s * len(work.timed) / max(plan.cells, 1)
        budget = _Budget(budget_s, used_s=used_s, clock=clock)
        if not elsewhere:
            models.export(lambda done, total, item: progress("exporting", done, total, item))
        with models.exported_meanwhile(_missing(plan, work.timed)) if elsewhere else contextlib.nullcontext():
            work.planned_passes(budget)
            work.disturbed_again(budget)
            if budget.is_limited:
                work.further_passes(budget)
        measured = timings(journal.records, networks.__contains__)
        pace = network_pace(journal.records, networks.__contains__)
    noise_of(measured, [label for label, _ in plan.networks]).refuse_useless()
    shutil.rmtree(folder, ignore_errors=True)
    return MeasuredCells(measured, pace, bench.failures)


def network_pace(records: Sequence[Mapping[str, Any]], is_network: Callable[[str], bool]) -> Pace | None:
    """How fast the machine was while whole networks were timed."""
    return fit_pace(
        [(record["median_ms"], record["reference_ms"]) for record, _ in passes]
        for name, passes in passes_of(records, is_network).items()
        if is_network(name)
    )


class _Work:
    """The passes of one build."""

    def __init__(
        self,
        plan: Plan,
        bench: Bench,
        progress: Progress,
        say: Callable[[str], None],
        load: OtherLoad | None,
    ) -> None:
        self._plan, self._bench, self._progress, self._say, self._load = plan, bench, progress, say, load
        self.timed = {(record["pass"], record["cell"]) for record in bench.journal.records}
        """Passes and cells that the journal holds."""
        self._told = ""

    def planned_passes(self, budget: _Budget) -> None:
        """Every pass of the plan; those that a table does not need end with the budget."""
        planned = {(number, cell) for number in range(self._plan.passes) for cell in self._plan.order(number)}
        for number in range(self._plan.passes):

            def report(cell: str, attempt: int, number: int = number) -> None:
                self.timed.add((number, cell))
                late = " (past --minutes: the least that a table needs)" if budget.is_over else ""
                self._progress(f"measuring{late}", len(self.timed & planned), len(planned), cell)

            self._bench.report = report
            self._bench.stop = (lambda: budget.is_over) if number >= _NEEDED_PASSES else (lambda: False)
            self._bench.run_pass(number, self._plan.order(number))
            self._tell_load()
        self._bench.stop = lambda: budget.is_over

    def disturbed_again(self, budget: _Budget) -> None:
        """Times again what was disturbed, as long as that helps."""
        for attempt in range(1, ATTEMPTS):
            orders = {number: self._plan.order(number) for number in range(self._plan.passes)}
            if budget.is_limited:  # what the budget has cut off is not disturbed
                orders = {
                    number: [cell for cell in order if (number, cell) in self.timed]
                    for number, order in orders.items()
                }
            wanted = {number: self._bench.open_cells(number, order) for number, order in orders.items()}
            total, done = sum(map(len, wanted.values())), 0
            if not total or budget.is_over:
                return

            def report(cell: str, _attempt: int, total: int = total) -> None:
                nonlocal done
                done += 1
                self._progress("measuring again what was disturbed", done, total, cell)

            self._bench.report = report
            for number, order in orders.items():
                self._bench.run_pass(number, order, attempt=attempt)
            self._tell_load()
            still = sum(len(self._bench.open_cells(number, order)) for number, order in orders.items())
            if total >= HOPELESS_FROM and still > HOPELESS * total:
                return

    def further_passes(self, budget: _Budget) -> None:
        """Passes of the cells that disagree between processes, until none does or the time is up."""
        records, is_network = self._bench.journal.records, self._bench.is_network
        number = max([self._plan.passes - 1, *(record["pass"] for record in records)]) + 1
        for _ in range(FURTHER_PASSES):
            found = timings(records, is_network)
            uncertain = _uncertain(found, is_network)
            seconds = min(budget.left_s, FURTHER_S)
            count = int(seconds / self._plan.cell_s)
            if not uncertain or count < 1 + ANCHORS:
                return
            cells = [*uncertain[: count - ANCHORS]]
            cells += _anchors(found, [label for label, _ in self._plan.networks], besides=cells)
            done = 0

            def report(cell: str, _attempt: int, total: int = len(cells), left: int = len(uncertain)) -> None:
                nonlocal done
                done += 1
                self._progress(f"measuring again the {left} cells that disagree", done, total, cell)

            self._bench.report = report
            self._bench.run_pass(number, cells)
            self._tell_load()
            number += 1

    def _tell_load(self) -> None:
        """Which other programs used the CPU since the last pass, where they did; the same only once."""
        programs = () if self._load is None else self._load.programs()
        if sum(program.share for program in programs) < DISTURBING_SHARE:
            return
        names = ", ".join(program.name for program in programs[:3])
        if names != self._told:
            self._told = names
            listed = ", ".join(map(str, programs[:3]))
            self._say(f"Other programs used the CPU while measuring: {listed}. End them for a better table.")


_NEEDED_PASSES = 2
"""The first, and the second, which has no ops."""


def _missing(plan: Plan, timed: Collection[tuple[int, str]]) -> list[str]:
    """The cells that are still to be timed, in the order in which they will be."""
    return [
        name for number in range(plan.passes) for name in plan.order(number) if (number, name) not in timed
    ]


def _uncertain(found: Mapping[str, Timing], is_network: Callable[[str], bool]) -> list[str]:
    """Cells known worse than wanted, the worst first."""
    excess = {
        name: timing.error / (NETWORK_ERROR if is_network(name) else OP_ERROR)
        for name, timing in found.items()
        if len(timing.passes) > 1
    }
    return sorted((name for name, value in excess.items() if value > 1), key=lambda name: -excess[name])


def _anchors(found: Mapping[str, Timing], networks: Sequence[str], *, besides: Sequence[str]) -> list[str]:
    """The steadiest networks of all sizes: of each part of the range the one that is known best."""
    free = [name for name in networks if name in found and name not in set(besides)]
    by_size = sorted(free, key=lambda name: found[name].ms)
    count = min(ANCHORS, len(by_size))
    cuts = [round(place * len(by_size) / max(count, 1)) for place in range(count + 1)]
    return [
        min(by_size[low:high], key=lambda name: found[name].error) for low, high in itertools.pairwise(cuts)
    ]
