"""Several workers: really at once, the same candidates whatever they take, none lost and none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_fakes import SMALL, by_size, cheap_by_size, problem, small_space, table

from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate
from hwnas.io.jsonl import read_log
from hwnas.search import SearchResult, Trial, load_run, resume, search
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES
from hwnas.search.execution.ask_tell import OneByOne
from hwnas.search.execution.processes import Answer
from hwnas.search.run import candidate_log
from hwnas.space.search_space import Vector

BUDGET_MS = 0.9


def started(path: Path | None, trials: int = 30, **options: Any) -> SearchResult:
    asked = {"device": table(), "budget_ms": BUDGET_MS, "accuracy": by_size, "trials": trials, "workers": 2}
    return search(small_space(), out=path, **asked | options)


def in_order_of_asking(trials: Sequence[Trial]) -> list[str]:
    places = [(int(trial.notes.get("asked", line)), trial.id) for line, trial in enumerate(trials)]
    return [name for _, name in sorted(places)]


@pytest.fixture
def evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the estimators of `search_fakes` note what they were asked: a line each, network and process."""
    monkeypatch.setenv("EVALUATIONS", str(tmp_path / "evaluations"))
    return tmp_path / "evaluations"


def test_two_workers_are_two_processes_and_neither_is_this_one(evaluations: Path) -> None:
    result = started(None, accuracy="search_fakes:uneven")
    lines = [line.split() for line in evaluations.read_text().splitlines()]
    assert sorted(name for name, _ in lines) == sorted(trial.id for trial in result.trials)
    processes = {int(process) for _, process in lines}
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.slow
def test_what_is_proposed_depends_on_the_number_of_workers_and_not_on_who_is_done_first(
    tmp_path: Path, evaluations: Path
) -> None:
    at_once, uneven = started(tmp_path / "a"), started(tmp_path / "b", accuracy="search_fakes:uneven")
    assert in_order_of_asking(at_once.trials) == in_order_of_asking(uneven.trials)
    assert [trial.id for trial in uneven.trials] != in_order_of_asking(uneven.trials), "some overtook others"


@pytest.mark.parametrize("after", [2, 17])
@pytest.mark.slow
def test_a_stopped_run_of_two_workers_ends_with_the_same_candidates(
    tmp_path: Path, evaluations: Path, after: int
) -> None:
    whole = started(tmp_path / "whole", accuracy="search_fakes:uneven")
    asked = iter(range(1000))
    part = started(tmp_path / "part", accuracy="search_fakes:uneven", stop=lambda: next(asked) >= after)
    assert len(part.trials) < 30
    result = resume(tmp_path / "part", device=table())
    assert in_order_of_asking(result.trials) == in_order_of_asking(whole.trials)
    assert len(evaluations.read_text().splitlines()) == 60, "nothing was evaluated twice"


@pytest.mark.slow
def test_a_record_with_a_gap_is_filled_and_what_comes_after_the_gap_is_not_evaluated_again(
    tmp_path: Path, evaluations: Path
) -> None:
    whole = started(tmp_path / "run")
    rows = read_log(tmp_path / "run" / CANDIDATES, CANDIDATE_LOG).rows
    names = in_order_of_asking(whole.trials)
    kept = [line for line in rows if names.index(line["id"]) < 26 and line["id"] != names[24]]
    numbered = [line | {"notes": {"asked": names.index(line["id"])}} for line in kept]
    (tmp_path / "run" / CANDIDATES).unlink()
    with candidate_log(tmp_path / "run") as log:  # as if a kill had come while one took long
        log.extend(numbered)
    result = resume(tmp_path / "run", device=table())
    assert in_order_of_asking(result.trials) == names
    assert len(result.trials) == 30


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.slow
def test_a_run_taken_up_with_another_number_of_workers_loses_and_repeats_nothing(
    tmp_path: Path, evaluations: Path, workers: int
) -> None:
    asked = iter(range(1000))
    part = started(tmp_path / "run", accuracy="search_fakes:uneven", stop=lambda: next(asked) >= 20)
    result = resume(tmp_path / "run", device=table(), workers=workers)
    assert result.trials[: len(part.trials)] == part.trials
    assert len({trial.id for trial in result.trials}) == len(result.trials) == 30
    assert len(evaluations.read_text().splitlines()) == 30


def test_cheap_evaluations_give_the_same_record_with_any_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        started(tmp_path / str(workers), 150, accuracy=cheap_by_size, workers=workers)
    assert (tmp_path / "1" / CANDIDATES).read_bytes() == (tmp_path / "2" / CANDIDATES).read_bytes()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_candidate_tried_again(evaluations: Path) -> None:
    whole = started(None, accuracy="search_fakes:uneven")
    evaluations.unlink()
    killed = started(None, accuracy="search_fakes:dies_once")
    assert in_order_of_asking(killed.trials) == in_order_of_asking(whole.trials)
    names = [line.split()[0] for line in evaluations.read_text().splitlines()]
    assert sorted(set(names)) == sorted(trial.id for trial in killed.trials)
    assert len(names) == 31, "one was begun twice"


@pytest.mark.slow
def test_a_network_that_ends_every_worker_is_named_and_the_others_are_kept(
    tmp_path: Path, evaluations: Path
) -> None:
    with pytest.raises(HwnasError, match=r"ended 3 processes in a row, the last by signal 9"):
        started(tmp_path / "run", accuracy="search_fakes:dies_at_tenth")
    assert len(load_run(tmp_path / "run").trials) >= 9


def test_an_estimators_error_comes_back_as_it_is(tmp_path: Path, evaluations: Path) -> None:
    with pytest.raises(UsageError, match="failed on network .*ValueError: no such weights"):
        started(tmp_path / "run", accuracy="search_fakes:raises_at_tenth")
    assert len(load_run(tmp_path / "run").trials) >= 9


def test_an_estimator_that_no_other_process_can_load_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match=r"another process can load.*'module:function'"):
        started(None, accuracy=lambda arch: 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be from 1"),
        ({"address": "auto"}, "the engine 'optuna' takes no address"),
        ({"gpus": 1.0}, "the engine 'optuna' takes no gpus"),
        ({"engine": "rya"}, "Did you mean 'ray'"),
    ],
)
def test_a_wrong_way_to_evaluate_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        started(None, **options)


STUCK = (
    *("--device", "toy", "--budget", "0.9ms", "--space", "small.yaml", "--accuracy", "search_fakes:stuck"),
    *("--workers", "2", "--out", "run"),
)


@pytest.mark.slow
def test_workers_end_within_seconds_of_a_search_that_was_killed(tmp_path: Path, evaluations: Path) -> None:
    (tmp_path / "tables").mkdir()
    table().save(tmp_path / "tables" / "toy.yaml")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    root = Path(__file__).resolve().parent
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnas", "search", *STUCK],
        cwd=tmp_path,
        env=os.environ
        | {
            "HWNAS_TABLES": str(tmp_path / "tables"),
            "PYTHONPATH": os.pathsep.join([str(root.parent), str(root)]),
        },
        stderr=subprocess.DEVNULL,
    )
    for _ in range(3000):
        if evaluations.exists() and evaluations.read_text().count("\n") == 2:
            break
        time.sleep(0.01)
    workers = [int(line.split()[1]) for line in evaluations.read_text().splitlines()]
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(500):
        if not any(map(_is_running, workers)):
            return
        time.sleep(0.01)
    raise AssertionError(f"still there after 5 s: {[one for one in workers if _is_running(one)]}")


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_wait_for_a_network_that_takes_as_long_as_three(workers: int) -> None:
    """By a clock of its own: every seventh network takes 3, the others 1; at most one in ten waits."""
    evaluator = _Clocked(workers, lambda place: 3.0 if place % 7 == 0 else 1.0)
    some = problem(0.9)
    sampler = plugins.load("search/samplers", "random").sampler(some, seed=0)
    search = OneByOne(some, sampler, evaluator, done=(), on_trials=lambda found: None)
    search.run(wanted=60, stop=lambda: False)
    end = evaluator.spans[-1][0]
    worked = sum(min(ended, end) - began for began, ended in evaluator.spans)
    assert worked / (workers * end) > 0.9


class _Clocked:
    """Evaluations that take what is said, on a clock that jumps to the next end."""

    def __init__(self, workers: int, seconds: Callable[[int], float]) -> None:
        self.workers = workers
        self.spans: list[tuple[float, float]] = []
        self._now, self._seconds = 0.0, seconds
        self._ends: dict[int, tuple[float, Sequence[Vector]]] = {}
        self._count = 0

    def begin(self, vectors: Sequence[Vector]) -> int:
        self.spans.append((self._now, self._now + self._seconds(self._count)))
        self._count += 1
        self._ends[self._count] = (self.spans[-1][1], vectors)
        return self._count

    def finished(self) -> dict[int, Answer]:
        number = min(self._ends, key=lambda one: self._ends[one][0])
        self._now, vectors = self._ends.pop(number)
        return {number: [Estimate(by_size(small_space().decode(vector))) for vector in vectors]}

    def close(self) -> None:
        pass
