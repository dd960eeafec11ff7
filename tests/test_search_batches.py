"""Batches for cheap estimators: as true to the seed, the budget and the record as one by one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_fakes import (
    all_vectors,
    by_size,
    cheap_by_size,
    evaluated,
    latency_ms,
    problem,
    small_space,
    table,
)

from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate, is_cheap
from hwnas.predictors.accuracy import load_accuracy
from hwnas.search import SearchResult, load_run, resume, search
from hwnas.search.candidates import CANDIDATES
from hwnas.search.history import Evaluated
from hwnas.search.pareto import front, hypervolume
from hwnas.search.samplers.auto import LEAST, batch_size, batch_start
from hwnas.search.variation import parents_of
from hwnas.space.arch import ArchSpec

BUDGET_MS = 0.9


def started(path: Path | None, trials: int = 300, **options: Any) -> SearchResult:
    asked = {"device": table(), "budget_ms": BUDGET_MS, "accuracy": cheap_by_size, "trials": trials}
    return search(small_space(), out=path, **asked | options)


def volume(result: SearchResult) -> float:
    return hypervolume([(t.latency.value, -t.accuracy.value) for t in result.trials], (BUDGET_MS, 0.0))


def test_an_estimator_is_cheap_when_it_says_so_and_dear_otherwise() -> None:
    assert is_cheap(load_accuracy("published"))
    assert is_cheap(load_accuracy(cheap_by_size))
    assert not is_cheap(load_accuracy(by_size))
    assert not is_cheap(load_accuracy("search_fakes:slow"))


def test_every_candidate_is_new_within_the_budget_and_of_the_space() -> None:
    trials = started(None).trials
    assert len({trial.id for trial in trials}) == len(trials) == 300
    assert all(trial.latency.value <= BUDGET_MS for trial in trials)
    assert all(small_space().decode(trial.vector).id == trial.id for trial in trials)


def test_a_trial_of_a_batch_says_what_one_evaluated_alone_says() -> None:
    result = started(None, 60)
    alone = problem(BUDGET_MS)
    for trial in result.trials[-20:]:
        other = evaluated(alone, trial.vector)
        assert trial.latency.value == pytest.approx(table().predict(small_space().decode(trial.vector)).value)
        assert trial.latency.high == pytest.approx(other.latency.high)
        assert (trial.params, trial.macs, trial.accuracy) == (other.params, other.macs, other.accuracy)


@pytest.mark.slow
def test_a_seed_decides_everything_and_another_seed_finds_others() -> None:
    assert started(None, seed=3).trials == started(None, seed=3).trials
    assert started(None, seed=3).trials != started(None, seed=4).trials


@pytest.mark.parametrize("after", [1, 30, 131, 199])
def test_a_run_stopped_in_the_middle_of_a_batch_ends_with_the_same_record(tmp_path: Path, after: int) -> None:
    started(tmp_path / "whole")
    started(tmp_path / "part", trials=after)
    assert len(load_run(tmp_path / "part").trials) == after
    resume(tmp_path / "part", device=table(), trials=300)
    assert (tmp_path / "part" / CANDIDATES).read_bytes() == (tmp_path / "whole" / CANDIDATES).read_bytes()


@pytest.mark.slow
def test_a_record_cut_anywhere_is_filled_up_again_and_nothing_is_evaluated_twice(tmp_path: Path) -> None:
    run = tmp_path / "run"
    started(run, trials=120)
    whole = (run / CANDIDATES).read_bytes()
    for length in range(0, len(whole), len(whole) // 13):
        (run / CANDIDATES).write_bytes(whole[:length])
        asked: list[str] = []

        def counted(arch: ArchSpec, asked: list[str] = asked) -> float:
            asked.append(arch.id)
            return by_size(arch)

        counted.cheap = True  # type: ignore[attr-defined]
        counted.__module__, counted.__qualname__ = cheap_by_size.__module__, cheap_by_size.__qualname__
        resume(run, device=table(), accuracy=counted)
        assert (run / CANDIDATES).read_bytes() == whole
        kept = max(0, whole[:length].count(b"\n") - 1)  # the first line holds no candidate
        assert len(asked) == 120 - kept


def test_when_the_space_is_exhausted_the_search_ends_with_all_of_it() -> None:
    within = [vector for vector in all_vectors() if latency_ms(vector) <= 0.5]
    trials = started(None, 10_000, budget_ms=0.5).trials
    assert {trial.vector for trial in trials} == set(within)


def test_stopping_is_asked_between_lots_and_keeps_what_is_done() -> None:
    asked = iter([False, False, True])
    result = started(None, stop=lambda: next(asked, True))
    assert 0 < len(result.trials) < 300


def test_batches_find_nearly_all_of_the_front_that_listing_every_network_finds() -> None:
    points = [(latency_ms(v), -by_size(small_space().decode(v))) for v in all_vectors()]
    within = [point for point in points if point[0] <= BUDGET_MS]
    best = hypervolume([within[index] for index in front(within)], (BUDGET_MS, 0.0))
    assert volume(started(None, 200)) > 0.995 * best


def test_an_estimator_that_fails_in_a_batch_says_on_what_and_earlier_lots_are_kept(tmp_path: Path) -> None:
    calls: list[str] = []

    def fails(arch: ArchSpec) -> float:
        calls.append(arch.id)
        if len(calls) > 150:
            raise RuntimeError("no more")
        return by_size(arch)

    fails.cheap = True  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="failed on network .*no more"):
        started(tmp_path / "run", accuracy=fails)
    kept = len(load_run(tmp_path / "run").trials)
    assert 24 <= kept <= 150


def test_batches_grow_with_what_is_known_and_begin_where_they_always_do() -> None:
    assert [batch_size(count) for count in (1, 24, 400, 10_000)] == [LEAST, LEAST, 25, 500]
    starts = {batch_start(count, 24) for count in range(24, 2000)}
    assert all(batch_start(start, 24) == start for start in starts)
    ends = sorted(starts)
    assert [after - before for before, after in itertools.pairwise(ends)] == [
        batch_size(before) for before in ends[:-1]
    ]


def test_parents_are_whole_fronts_and_of_the_last_the_least_crowded() -> None:
    latency = np.array([1.0, 2.0, 2.1, 3.0, 1.5])
    score = np.array([1.0, 2.0, 2.1, 3.0, 0.5])  # the last is dominated by the first
    past = Evaluated(np.arange(5)[:, None], latency[:, None], score, np.zeros(5))
    assert sorted(parents_of(past, 4).tolist()) == [0, 1, 2, 3]
    assert sorted(parents_of(past, 3).tolist())[::2] == [0, 3], "the ends are kept"
    assert set(parents_of(past, 5).tolist()) == {0, 1, 2, 3, 4}


def test_many_networks_at_once_are_refused_when_one_breaks_the_budget() -> None:
    several = problem(BUDGET_MS)
    slowest = max(all_vectors(), key=several.usage)
    quickest = min(all_vectors(), key=several.usage)
    with pytest.raises(HwnasError, match="only networks within the budget are evaluated"):
        several.evaluated([quickest, slowest], [Estimate(1.0), Estimate(1.0)])
