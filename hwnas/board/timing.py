"""Timing one callable well: warm up until steady, sample until the median is known.

Protocol: at least `warmup_runs` runs and `warmup_s` seconds until two windows agree; then at least
`repeats` timed repeats, each long enough for the clock, until the 95 % order-statistic interval of
the median is narrow or the time is up. Raw samples are kept, warm-ups apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["CAREFUL", "QUICK", "Rules", "Samples", "measure", "median_interval"]


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
    width: float = 0.02
    """Sampling ends when the median's interval is within this fraction of it on either side."""
    limit_s: float = 10.0
    """Sampling ends after so many seconds, as soon as there are `repeats`; at `limit_s * 3`
    whatever there is."""


CAREFUL = Rules()
"""For a handful of whole networks."""

QUICK = Rules(warmup_s=0.03, warmup_limit_s=0.3, width=0.01, limit_s=0.15)
"""For the many cells of a table, each of which several fresh processes time again."""


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
            low, high = median_interval(samples)
            middle = median(samples)
            if max(high - middle, middle - low) <= rules.width * middle:
                break
            check_at = len(samples) + max(5, len(samples) // 5)
    return Samples(tuple(samples), tuple(warmup), group, steady)


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
