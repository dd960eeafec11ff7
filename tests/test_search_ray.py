"""Ray: evaluations as its tasks, and nothing lost when a worker, or all of Ray, goes."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from search_fakes import by_size, cheap_by_size, small_space, table

import hwnas
from hwnas.cli.workers import evaluated_where
from hwnas.errors import HwnasError, MissingPackageError, UsageError
from hwnas.predictors.accuracy import load_accuracy
from hwnas.search import SearchResult, load_run, resume, search
from hwnas.search.candidates import CANDIDATES
from hwnas.search.engines.ray import _evaluate
from hwnas.search.execution.processes import packed

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed here")


def started(path: Path | None, trials: int = 30, **options: Any) -> SearchResult:
    asked = {"device": table(), "budget_ms": 0.9, "accuracy": by_size, "trials": trials, "workers": 2}
    return search(small_space(), out=path, **asked | options)


def test_a_worker_of_another_version_is_refused() -> None:
    task = packed(small_space(), load_accuracy(by_size))
    vector = small_space().repair([0] * len(small_space().decisions))
    (estimate,) = _evaluate(task, [vector], hwnas.__version__)  # type: ignore[misc]
    assert estimate.value == by_size(small_space().decode(vector))
    refused = _evaluate(task, [vector], "0.0.1")
    assert isinstance(refused, UsageError)
    assert f"it searches with 0.0.1, and a worker has {hwnas.__version__}" in str(refused)


def test_without_ray_this_machine_evaluates_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked = {"engine": "ray", "workers": 3, "address": "auto", "gpus": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert evaluated_where(given=asked, recorded={}, say=said.append) == {"engine": "optuna", "workers": 3}
    assert said == [
        "Ray is not installed. Install it: pip install 'hwnas[ray]'. Until then, networks are evaluated with "
        "3 processes of this machine."
    ]
    again = evaluated_where(given={}, recorded={"engine": "ray"}, say=said.append)
    assert again == {"engine": "optuna", "workers": 1}
    assert evaluated_where(given={"workers": 2}, recorded={}, say=said.append) == {"workers": 2}
    assert len(said) == 2


def test_a_library_call_without_ray_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[ray\]'"):
        started(None, engine="ray")


@with_ray
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("two_local_workers")
class TestWithTwoLocalWorkers:
    def test_the_same_candidates_as_with_two_processes_of_this_machine(self, tmp_path: Path) -> None:
        for engine in ("optuna", "ray"):
            started(tmp_path / engine, 150, accuracy=cheap_by_size, engine=engine)
        assert (tmp_path / "ray" / CANDIDATES).read_bytes() == (tmp_path / "optuna" / CANDIDATES).read_bytes()
        asked_one_by_one = [{t.id for t in started(None, engine=name).trials} for name in ("optuna", "ray")]
        assert asked_one_by_one[0] == asked_one_by_one[1]

    def test_a_worker_killed_in_the_middle_of_a_trial_changes_nothing(self, tmp_path: Path) -> None:
        whole = started(None)
        marker = tmp_path / "killed"
        killed = started(None, accuracy=_DiesOnce(marker), engine="ray")
        assert marker.exists(), "one was killed"
        assert {trial.id for trial in killed.trials} == {trial.id for trial in whole.trials}
        assert [one.id for one in killed.front] == [one.id for one in whole.front]

    def test_a_network_that_ends_every_worker_ends_the_search_with_all_else_saved(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(HwnasError, match="Ray gave up an evaluation after 3 attempts"):
            started(tmp_path / "run", accuracy=_DiesAlways(), engine="ray")
        kept = load_run(tmp_path / "run")
        assert kept.work == {"engine": "ray", "workers": 2}

    def test_a_run_goes_on_without_the_cluster_it_began_on(self, tmp_path: Path) -> None:
        asked = iter(range(1000))
        part = started(tmp_path / "run", engine="ray", stop=lambda: next(asked) >= 20)
        result = resume(tmp_path / "run", device=table(), engine="optuna", workers=2)
        assert result.trials[: len(part.trials)] == part.trials
        assert {trial.id for trial in result.trials} == {trial.id for trial in started(None).trials}


@with_ray
@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_an_address_where_no_cluster_is_says_what_to_do(tmp_path: Path) -> None:
    import ray

    ray.shutdown()
    with pytest.raises(UsageError, match=r"must answer at 'auto'.*ray start --head"):
        started(tmp_path / "run", engine="ray", address="auto")


class _DiesOnce:
    """As `by_size`; the process that is asked first is killed, unless the marker is there."""

    unit = "%"

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def predict(self, arch: Any) -> Any:
        if not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), 9)
        return load_accuracy(by_size).predict(arch)


class _DiesAlways:
    unit = "%"

    def predict(self, arch: Any) -> Any:
        os.kill(os.getpid(), 9)
