"""Timing one callable well: warm up until steady, sample until the median is known.

Protocol: at least `warmup_runs` runs and `warmup_s` seconds until two windows agree; then at least
`repeats` timed repeats, each long enough for the clock, until the 95 % order-statistic interval of
the median is narrow or the time is up. Raw samples are kept, warm-ups apart.

`measure_beside` times in bursts that take turns with a companion, always the same work. What a
machine's speed does meanwhile (clock, heat, a neighbour on the same host) shows in both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "CAREFUL",
    "FEWEST",
    "Beside",
    "Rules",
    "Samples",
    "measure",
    "measure_beside",
    "median_interval",
]


@dataclass(frozen=True)
class Rules:
    """How long to warm up and how long to sample."""

    warmup_runs: int = 10
    """At least so many runs are thrown away."""
    warmup_s: float = 0.5
    """At least so many seconds are thrown away."""
    warmup_limit_s: float = 3.0
    """Steady or not, sampling starts after so many seconds."""
    steady: float = 0.02
    """Two windows of warm-up agree when their medians differ by at most this fraction."""
    repeats: int = 30
    """At least so many timed repeats."""
    repeat_s: float = 0.0002
    """A timed repeat lasts at least so long: faster runs are grouped."""
    burst_s: float = 0.002
    """Beside a companion, a turn of either lasts at least so long."""
    width: float = 0.02
    """Sampling ends when the median's interval is within this fraction of it on either side."""
    limit_s: float = 10.0
    """Sampling ends after so many seconds, as soon as there are `repeats`; at `limit_s * 3`
    whatever there is, beside a companion FEWEST at least."""
    energy_s: float = 0.0
    """Seconds to run further for the energy, on boards that report it; 0: it is not measured."""


FEWEST = 5
"""Repeats beside a companion that takes longer than there is time, as on a slow board."""


CAREFUL = Rules()
"""For a handful of whole networks."""


@dataclass(frozen=True)
class Samples:
    """What was timed. Nanoseconds for one run; where runs were grouped, the group's mean."""

    samples_ns: tuple[float, ...]
    """One per timed repeat, in the order taken."""
    warmup_ns: tuple[float, ...]
    """One per window of the warm-up, kept apart."""
    runs_per_repeat: int
    """Runs that one timed repeat holds."""
    steady: bool
    """Whether the last two windows of the warm-up agreed."""

    @property
    def median_ms(self) -> float:
        return median(self.samples_ns) / 1e6

    @property
    def p95_ms(self) -> float:
        """The nearest-rank 95th percentile of the repeats."""
        ordered = sorted(self.samples_ns)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] / 1e6

    @property
    def low_ms(self) -> float:
        """Lower end of the 95 % order-statistic interval of the median."""
        return median_interval(self.samples_ns)[0] / 1e6

    @property
    def high_ms(self) -> float:
        """Upper end of the 95 % order-statistic interval of the median."""
        return median_interval(self.samples_ns)[1] / 1e6


@dataclass(frozen=True)
class Beside:
    """What was timed in turns with a companion."""

    samples: Samples
    """Of what was to be timed: a repeat is a burst, without its first run."""
    companion_ns: tuple[float, ...]
    """One run of the companion before each burst and one after the last: one more than repeats."""
    cold_ns: tuple[float, ...]
    """The first run of each burst, which finds the companion's data in the caches."""

    @property
    def reach(self) -> float:
        """How well the median is known, relative: the wider side of its 95 % interval.

        Either of the samples or of their ratios to the companion's runs around them, whichever is
        known better: small work is steadier than the companion, large work shares its ups and downs.
        """
        around = zip(self.companion_ns, self.companion_ns[1:], self.samples.samples_ns)  # noqa: B905 - Python 3.9
        ratios = tuple(2 * own / (before + after) for before, after, own in around)
        return min(_reach(self.samples.samples_ns), _reach(ratios))


def measure(
    run: Callable[[], object],
    *,
    rules: Rules = CAREFUL,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Samples:
    """Times `run` by the rules; `clock` gives nanoseconds and never goes back."""
    warmup, steady = _warm_up(run, rules, clock)
    group = max(1, math.ceil(rules.repeat_s * 1e9 / max(warmup[-1], 1.0)))
    samples: list[float] = []
    start = clock()
    check_at = rules.repeats
    while True:
        before = clock()
        for _ in range(group):
            run()
        after = clock()
        samples.append((after - before) / group)
        elapsed_s = (after - start) / 1e9
        if elapsed_s >= rules.limit_s and (len(samples) >= rules.repeats or elapsed_s >= 3 * rules.limit_s):
            break
        if len(samples) >= check_at:
            if _reach(tuple(samples)) <= rules.width:
                break
            check_at = len(samples) + max(5, len(samples) // 5)
    return Samples(tuple(samples), tuple(warmup), group, steady)


def measure_beside(
    run: Callable[[], object],
    companion: Callable[[], object],
    *,
    rules: Rules = CAREFUL,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Beside:
    """Times `run` in turns with `companion` until its median is known, or its ratio to the companion.

    Before each timed turn its callable runs once untimed (or timed apart), so that it finds its own
    data in the caches as it would when it runs alone.
    """
    warmup, steady = _warm_up(run, rules, clock)
    group = max(1, math.ceil(rules.burst_s * 1e9 / max(warmup[-1], 1.0)))
    samples: list[float] = []
    cold: list[float] = []
    beside: list[float] = []
    start = clock()
    check_at = rules.repeats
    while True:
        companion()
        beside.append(_timed_ns(companion, clock))
        elapsed_s = (clock() - start) / 1e9
        hurried = elapsed_s >= 3 * rules.limit_s and len(samples) >= FEWEST
        if elapsed_s >= rules.limit_s and (len(samples) >= rules.repeats or hurried):
            break
        if len(samples) >= check_at:
            so_far = Beside(Samples(tuple(samples), tuple(warmup), group, steady), tuple(beside), tuple(cold))
            if so_far.reach <= rules.width:
                break
            check_at = len(samples) + max(5, len(samples) // 5)
        cold.append(_timed_ns(run, clock))
        before = clock()
        for _ in range(group):
            run()
        samples.append((clock() - before) / group)
    return Beside(Samples(tuple(samples), tuple(warmup), group, steady), tuple(beside), tuple(cold))


def _timed_ns(run: Callable[[], object], clock: Callable[[], int]) -> float:
    before = clock()
    run()
    return float(clock() - before)


def _warm_up(run: Callable[[], object], rules: Rules, clock: Callable[[], int]) -> tuple[list[float], bool]:
    """Medians of the warm-up's windows in ns, and whether the last two agreed."""
    windows: list[float] = []
    runs = 0
    per_window = max(3, rules.warmup_runs // 3)
    start = clock()
    while True:
        window = []
        for _ in range(per_window):
            before = clock()
            run()
            window.append(float(clock() - before))
        runs += per_window
        windows.append(median(window))
        elapsed_s = (clock() - start) / 1e9
        agreed = len(windows) > 1 and abs(windows[-1] - windows[-2]) <= rules.steady * windows[-2]
        if runs >= rules.warmup_runs and elapsed_s >= rules.warmup_s and agreed:
            return windows, True
        if elapsed_s >= rules.warmup_limit_s and len(windows) > 1:
            return windows, agreed


def _reach(values: tuple[float, ...]) -> float:
    low, high = median_interval(values)
    middle = median(values)
    return max(high - middle, middle - low) / middle


def median(values: tuple[float, ...] | list[float]) -> float:
    """The middle value, or the mean of the middle two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def median_interval(values: tuple[float, ...] | list[float]) -> tuple[float, float]:
    """The 95 % interval of the median from order statistics; no distribution is assumed.

    The value of rank n/2 - 1.96 sqrt(n)/2 (the normal approximation of the binomial) and the one as
    far from the other end; with fewer than six values it is their range.
    """
    ordered = sorted(values)
    count = len(ordered)
    reach = 1.96 * math.sqrt(count) / 2
    rank = max(round(count / 2 - reach), 1)
    return ordered[rank - 1], ordered[count - rank]
