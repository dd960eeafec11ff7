"""Search in arrays: as good as enumeration, reproducible, resumable, and asked again for less."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_fakes import all_vectors, dominates, small_space, table
from search_fakes import by_size as slow_by_size

from hwnas.errors import UsageError
from hwnas.estimate import ArrayPredictor, Estimate
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency import LatencyTable
from hwnas.search import SearchResult, evolution, load_run, resume, search
from hwnas.search.candidates import CANDIDATES
from hwnas.search.run import PROGRESS
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

BUDGET_MS = 0.9


@dataclass(frozen=True)
class BySize:
    """More MACs and parameters are better; for many networks at once."""

    unit: str = "%"
    cheap: bool = True
    in_arrays: bool = True

    def predict(self, arch: ArchSpec) -> Estimate:
        vector = np.array([small_space().encode(arch)])
        values, stds = self.predict_many(vector, small_space())
        return self.estimate(float(values[0]), float(stds[0]))

    def predict_many(self, encoded: Ints, space: SearchSpace) -> tuple[Floats, Floats]:
        from hwnas.search.objectives import Size

        macs, params = Size("macs", space).of(encoded), Size("params", space).of(encoded)
        values = 40 + 6 * np.log(macs / 1e6) + np.sin(params / 3e4)
        return values, np.full(len(values), 0.5)

    def estimate(self, value: float, std: float) -> Estimate:
        return Estimate(value, std, unit="%")


@pytest.fixture(autouse=True)
def small_spaces_are_not_enumerated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evolution, "ENUMERABLE", 0)


def enumerated(out: Path | None = None, **options: Any) -> SearchResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evolution, "ENUMERABLE", 10_000)
        return evolved(out, **options)


def evolved(out: Path | None = None, **options: Any) -> SearchResult:
    asked: dict[str, Any] = {"device": table(), "budget_ms": BUDGET_MS, "accuracy": BySize()}
    return search(small_space(), out=out, **asked | options)


def true_front(budget_ms: float) -> set[tuple[float, float]]:
    """Latency and accuracy of the networks that no other dominates, by enumeration."""
    vectors = np.array(all_vectors())
    ms = table().predict_many(vectors, small_space())
    values, _ = BySize().predict_many(vectors, small_space())
    points = [
        (float(f"{x:.8g}"), -float(f"{y:.8g}")) for x, y in zip(ms, values, strict=True) if x <= budget_ms
    ]
    best: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return set(best)


def recorded_front(result: SearchResult) -> set[tuple[float, float]]:
    points = {
        (float(f"{one.latency.value:.8g}"), -float(f"{one.accuracy.value:.8g}")) for one in result.trials
    }
    return {point for point in points if not any(dominates(other, point) for other in points)}


def test_it_finds_the_front_that_enumeration_finds() -> None:
    result = evolved()
    assert result.is_complete and result.trials_wanted is None
    assert max(one.latency.value for one in result.trials) <= BUDGET_MS
    assert recorded_front(result) == true_front(BUDGET_MS)


def test_a_seed_decides_the_record_and_the_folder_does_not(tmp_path: Path) -> None:
    first = evolved(tmp_path / "a", seed=3)
    assert evolved(seed=3).trials == first.trials == load_run(tmp_path / "a").trials
    assert load_run(tmp_path / "a") == first
    assert evolved(seed=4).trials != first.trials


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_search_stopped_after_any_epoch_ends_with_the_same_record(tmp_path: Path, epochs: int) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    evolved(whole)
    asked = iter(range(100))
    assert not evolved(stopped, stop=lambda: next(asked) >= epochs).is_complete
    assert resume(stopped, device=table(), accuracy=BySize()).is_complete
    for name in (CANDIDATES, PROGRESS):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_a_record_torn_anywhere_is_repeated_from_its_last_whole_epoch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    evolved(run)
    whole = {name: (run / name).read_bytes() for name in (CANDIDATES, PROGRESS)}
    first_epoch_line, *epochs = whole[PROGRESS].splitlines(keepends=True)
    first_line, *lines = whole[CANDIDATES].splitlines(keepends=True)
    for kept in range(len(epochs)):
        recorded = json.loads(epochs[kept - 1])["recorded"] if kept else 0
        # Some of the next epoch, its last line torn; what a whole epoch recorded is on the disk.
        torn = b"".join([first_line, *lines[:recorded]]) + b"".join(lines[recorded : recorded + 3])[:-20]
        (run / CANDIDATES).write_bytes(torn)
        (run / PROGRESS).write_bytes(b"".join([first_epoch_line, *epochs[:kept]]) + epochs[kept][:15])
        resume(run, device=table(), accuracy=BySize())
        assert {name: (run / name).read_bytes() for name in whole} == whole


def test_a_search_that_has_converged_says_so_and_trials_do_not_apply(tmp_path: Path) -> None:
    result = evolved(tmp_path / "run")
    last = result.epochs[-1]
    assert last.converged and last.recorded == len(result.trials) and last.evaluated == result.evaluated
    before = (tmp_path / "run" / CANDIDATES).read_bytes()
    assert resume(tmp_path / "run", device=table(), accuracy=BySize()).trials == result.trials
    assert (tmp_path / "run" / CANDIDATES).read_bytes() == before
    with pytest.raises(UsageError, match="until it converges"):
        resume(tmp_path / "run", device=table(), accuracy=BySize(), trials=10)


def test_with_trials_or_workers_it_evaluates_so_many() -> None:
    assert len(evolved(trials=30).trials) == 30
    assert evolved(trials=30).trials_wanted == 30


def test_another_budget_starts_from_what_is_on_record(tmp_path: Path) -> None:
    evolved(tmp_path / "wide")
    narrow = search(
        start_from=tmp_path / "wide",
        device=table(),
        budget_ms=0.6,
        accuracy=BySize(),
        out=tmp_path / "narrow",
    )
    assert narrow.given > 0 and narrow.source == str(tmp_path / "wide")
    assert recorded_front(narrow) == true_front(0.6)
    again = resume(tmp_path / "narrow", device=table(), accuracy=BySize())
    assert again.trials == narrow.trials


def test_another_budget_of_a_costly_estimator_evaluates_nothing_twice(tmp_path: Path) -> None:
    asked: list[str] = []

    def costly(arch: ArchSpec) -> float:
        asked.append(arch.id)
        return slow_by_size(arch)

    options: dict[str, Any] = {"device": table(), "accuracy": costly}
    wide = search(small_space(), budget_ms=0.9, trials=60, out=tmp_path / "wide", **options)
    assert len(asked) == 60
    within = [one.id for one in wide.trials if one.latency.value <= 0.7]
    narrow = search(budget_ms=0.7, trials=len(within), start_from=wide, **options)
    assert len(asked) == 60, "the record answers"
    assert [one.id for one in narrow.trials] == within
    assert narrow.config.seed == wide.config.seed and narrow.space == wide.space
    further = search(budget_ms=0.7, trials=len(within) + 5, start_from=wide, **options)
    assert len(asked) == len(set(asked)) == 65
    assert further.given == len(within) and further.evaluated == 5


def test_another_estimator_or_space_cannot_start_from_a_run() -> None:
    past = evolved()
    with pytest.raises(UsageError, match="needs its accuracy estimator"):
        search(start_from=past, device=table(), accuracy=slow_by_size, budget_ms=0.6)
    with pytest.raises(UsageError, match="needs its search space"):
        search(SearchSpace.default(), start_from=past, device=table(), accuracy=BySize(), budget_ms=0.6)


def test_published_says_the_same_of_many_networks_as_of_each() -> None:
    published = load_accuracy("published")
    assert isinstance(published, ArrayPredictor)
    for name in ("default", "small-images"):
        space = SearchSpace.from_yaml(name)
        vectors = Moves(space).random(200, np.random.default_rng(1))
        values, stds = published.predict_many(vectors, space)
        alone = [published.predict(space.decode(row)) for row in vectors.tolist()]
        assert values == pytest.approx([one.value for one in alone], rel=1e-9)
        assert stds == pytest.approx([one.std for one in alone], rel=1e-9)
        made = published.estimate(float(values[0]), float(stds[0]))
        assert (made.low, made.high) == pytest.approx((alone[0].low, alone[0].high), rel=1e-9)


def test_three_objectives_converge_too() -> None:
    result = evolved(objectives=["params"])
    assert result.is_complete
    assert result.config.minimised == ("latency", "params")
    assert len(result.front) > 1


def test_growth_is_taken_over_several_epochs() -> None:
    def state(number: int, hypervolume: float) -> evolution.Epoch:
        return evolution.Epoch(number, 100 * number, 10, 5, hypervolume)

    rising = [state(number, 0.5 + 0.01 * number) for number in range(4)]
    assert not evolution._converged(rising, state(4, 0.55), exhausted=False).converged
    assert evolution._converged(rising, state(4, 0.5101), exhausted=False).converged
    assert evolution._converged(rising[:1], state(1, 0.5), exhausted=True).converged


def test_the_default_table_is_searched_without_optuna_or_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from hwnas.search import search; "
        "r = search(device='rpi4', budget_ms=20.0); assert r.is_complete; "
        "print(sorted({'optuna', 'torch', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert LatencyTable.load("rpi4").provenance == "estimated"


@pytest.mark.parametrize("piece", [50_000, 100])
def test_a_small_space_is_enumerated_and_its_front_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(evolution, "CHUNK", piece)
    assert len(evolution._front_and_more(np.empty((0, 2)))) == 0, "a piece may hold nothing feasible"
    result = enumerated(tmp_path / "run")
    within = sum(table().predict_many(np.array(all_vectors()), small_space()) <= BUDGET_MS)
    assert result.is_exact and result.is_complete and result.evaluated == within
    assert recorded_front(result) == true_front(BUDGET_MS)
    assert len(result.trials) < within, "the record keeps what matters"
    assert load_run(tmp_path / "run") == result
    assert resume(tmp_path / "run", device=table(), accuracy=BySize()).trials == result.trials


def test_an_enumeration_that_is_stopped_starts_again(tmp_path: Path) -> None:
    stopped = enumerated(tmp_path / "run", stop=lambda: True)
    assert not stopped.trials and not stopped.is_complete
    assert recorded_front(resume(tmp_path / "run", device=table(), accuracy=BySize())) == true_front(
        BUDGET_MS
    )


@pytest.mark.parametrize("piece", [1, 1000])
def test_every_network_of_a_space_is_listed_once(piece: int) -> None:
    found = np.concatenate(list(Moves(small_space()).every(piece)))
    assert len(found) == small_space().size
    assert set(map(tuple, found.tolist())) == set(all_vectors())
