"""Timing one callable: warm-up, grouping, when to stop, and the interval of the median."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hwnas.board.timing import (
    FEWEST,
    Beside,
    Rules,
    Samples,
    measure,
    measure_beside,
    median,
    median_interval,
)


class FakeRun:
    """A clock, and a callable that moves it on by what it is told, a microsecond more a look."""

    def __init__(self, run_ns: Callable[[int], float]) -> None:
        self.now, self.runs, self.run_ns = 0.0, 0, run_ns

    def clock(self) -> int:
        return round(self.now)

    def __call__(self) -> None:
        self.now += self.run_ns(self.runs)
        self.runs += 1


def timed(run_ns: Callable[[int], float], **rules: float) -> tuple[Samples, FakeRun]:
    run = FakeRun(run_ns)
    return measure(run, rules=Rules(**rules), clock=run.clock), run  # type: ignore[arg-type]


def test_a_constant_run_is_known_after_the_fewest_repeats() -> None:
    samples, _ = timed(lambda _: 1e6)
    assert len(samples.samples_ns) == 30
    assert (samples.median_ms, samples.low_ms, samples.high_ms, samples.p95_ms) == (1.0, 1.0, 1.0, 1.0)
    assert samples.steady


def test_warm_up_lasts_at_least_ten_runs_and_half_a_second() -> None:
    _, slow = timed(lambda _: 2e8)
    assert slow.runs - 30 >= 10
    samples, fast = timed(lambda _: 1e6)
    assert fast.runs - 30 * samples.runs_per_repeat >= 500


def test_warm_up_goes_on_until_two_windows_agree() -> None:
    # Each run is 1 % faster than the one before for 300 runs: windows of three differ by 3 %.
    samples, run = timed(lambda n: 1e7 * 0.99 ** min(n, 100), warmup_limit_s=60)
    assert samples.steady
    assert samples.median_ms == pytest.approx(10 * 0.99**100)
    assert max(samples.samples_ns) - min(samples.samples_ns) <= 1
    assert run.runs > 100


def test_warm_ups_are_kept_apart() -> None:
    samples, _ = timed(lambda n: 9e6 if n < 6 else 1e6)
    assert max(samples.warmup_ns) == 9e6
    assert max(samples.samples_ns) == 1e6


def test_a_run_that_never_settles_is_sampled_all_the_same_and_says_so() -> None:
    samples, _ = timed(lambda n: 1e6 * (1 + n // 3 % 2), warmup_limit_s=1.0, limit_s=0.5)
    assert not samples.steady
    assert len(samples.samples_ns) >= 30


def test_short_runs_are_grouped_until_a_repeat_is_long_enough() -> None:
    samples, _ = timed(lambda _: 7e3, repeat_s=0.0002)
    assert samples.runs_per_repeat == 29  # 29 * 7 us is the first above 200 us
    assert samples.median_ms == pytest.approx(0.007)


def test_a_noisy_run_is_sampled_longer_until_its_median_is_known() -> None:
    rng = random.Random(3)
    noisy, _ = timed(lambda _: 1e6 * rng.lognormvariate(0, 0.15))
    assert len(noisy.samples_ns) > 60
    assert noisy.high_ms - noisy.median_ms <= 0.02 * noisy.median_ms


def test_sampling_ends_at_the_limit_however_noisy() -> None:
    rng = random.Random(3)
    samples, _ = timed(lambda _: 1e6 * rng.lognormvariate(0, 1.0), limit_s=0.2)
    assert sum(samples.samples_ns) < 0.3e9


def test_a_very_slow_run_ends_at_three_limits() -> None:
    samples, _ = timed(lambda _: 1e9, limit_s=2.0)
    assert len(samples.samples_ns) == 6


def test_the_interval_of_the_median_holds_it_95_times_of_100() -> None:
    rng = random.Random(0)
    held = 0
    for _ in range(2000):
        low, high = median_interval([rng.expovariate(1) for _ in range(30)])
        held += low <= 0.6931471805599453 <= high
    assert 0.93 <= held / 2000 <= 0.985


def test_the_interval_of_few_values_is_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_the_median_of_an_even_number_is_the_middle_of_the_middle_two() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5


def test_p95_is_the_nearest_rank() -> None:
    samples = Samples(tuple(float(n) * 1e6 for n in range(1, 101)), (1.0,), 1, True)
    assert samples.p95_ms == 95.0


# --- in turns with a reference network ---


class Wandering:
    """A machine on which all work takes `speed(now in s)` times as long as it should."""

    def __init__(self, speed: Callable[[float], float]) -> None:
        self.now, self.speed = 0.0, speed
        self.log: list[str] = []

    def clock(self) -> int:
        return round(self.now)

    def work(self, name: str, ns: float) -> Callable[[], None]:
        def run() -> None:
            self.log.append(name)
            self.now += ns * self.speed(self.now / 1e9)

        return run


def beside(machine: Wandering, ns: float, **rules: float) -> Beside:
    own, reference = machine.work("own", ns), machine.work("reference", 2e6)
    return measure_beside(own, reference, rules=Rules(**rules), clock=machine.clock)  # type: ignore[arg-type]


def test_turns_are_taken_and_each_first_run_is_kept_apart() -> None:
    machine = Wandering(lambda now: 1.0)
    timed = beside(machine, 5e5, warmup_s=0.0, repeats=3, limit_s=0.01)
    bursts = "".join("c" if name == "reference" else "o" for name in machine.log).lstrip("o")
    # Two runs of the reference network, the second timed; one cold run; four to fill 2 ms.
    assert bursts == "ccooooo" * 3 + "cc"
    assert timed.samples.runs_per_repeat == 4
    assert timed.samples.samples_ns == (5e5,) * 3
    assert timed.cold_ns == (5e5,) * 3
    assert timed.reference_ns == (2e6,) * 4


@pytest.mark.parametrize("slowness", [40.0, 200.0])
def test_a_reference_network_that_takes_longer_than_there_is_time_still_leaves_some_repeats(
    slowness: float,
) -> None:
    machine = Wandering(lambda now: slowness)
    timed = beside(machine, 5e5, warmup_s=0.0, warmup_limit_s=0.1, repeats=12, limit_s=0.1)
    assert len(timed.samples.samples_ns) == FEWEST
    assert len(timed.reference_ns) == FEWEST + 1


def test_a_wandering_machine_shows_in_the_reference_network_as_in_the_work() -> None:
    machine = Wandering(lambda now: 1.2 if now % 2 > 1 else 1.0)
    timed = beside(machine, 5e6, repeats=300, limit_s=6.0)
    around = zip(timed.reference_ns, timed.reference_ns[1:], timed.samples.samples_ns, strict=False)
    ratios = [2 * own / (before + after) for before, after, own in around]
    assert median(ratios) == pytest.approx(2.5, rel=0.001)
    assert timed.reach < 0.001  # of the ratios
    assert max(timed.samples.samples_ns) / min(timed.samples.samples_ns) == pytest.approx(1.2)


def test_work_that_is_steadier_than_its_reference_network_ends_as_soon_as_it_is_known() -> None:
    rng = random.Random(0)
    now = 0.0

    def own() -> None:
        nonlocal now
        now += 1e6

    def reference() -> None:
        nonlocal now
        now += 2e6 * rng.uniform(0.7, 1.5)

    timed = measure_beside(own, reference, rules=Rules(repeats=12, limit_s=5.0), clock=lambda: round(now))
    assert len(timed.samples.samples_ns) == 12
    assert timed.reach == 0
