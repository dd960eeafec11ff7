"""RUN#2 and RUN#ID: a network of a run, named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import UsageError
from hwnas.named import resolve_arch
from hwnas.predictors.latency import Coefficients, DeviceProfile, LatencyTable
from hwnas.predictors.latency.features import FEATURE_NAMES
from hwnas.search import SearchResult, load_run, search
from hwnas.space import SearchSpace, count_params, lower

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A small finished run on a table of made-up coefficients: larger networks are said to be better."""
    table = LatencyTable(
        name="toy-board",
        profile=DeviceProfile(board="Toy", runtime="onnxruntime"),
        provenance="estimated",
        coefficients=Coefficients(tuple(1e-7 for _ in FEATURE_NAMES), offset_ms=1.0),
        created="2026-11-21",
    )
    folder = tmp_path_factory.mktemp("runs") / "toy-1"
    search(
        SearchSpace.default(),
        device=table,
        budget_ms=1000.0,
        accuracy=lambda arch: count_params(lower(arch)) / 1e6,
        trials=40,
        seed=1,
        sampler="random",
        out=folder,
    )
    result = load_run(folder)
    assert len(result.front) >= 2
    return result


def test_a_number_counts_from_the_best(run: SearchResult) -> None:
    for number, candidate in enumerate(run.front, start=1):
        assert resolve_arch(f"{run.path}#{number}") == (f"toy-1#{number}", candidate.arch)
    accuracies = [candidate.accuracy.value for candidate in run.front]
    assert accuracies == sorted(accuracies, reverse=True)


def test_an_id_or_its_beginning_names_the_network_it_is_of(run: SearchResult) -> None:
    for candidate in run.front:
        assert resolve_arch(f"{run.path}#{candidate.id}")[1] == candidate.arch
        assert resolve_arch(f"{run.path}#{candidate.id[:8]}")[1].id == candidate.id


@pytest.mark.parametrize("which", ["0", "999", "xyz", "", "-1", "1.5"])
def test_what_is_not_on_the_front_is_refused_with_what_is(run: SearchResult, which: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_arch(f"{run.path}#{which}")
    assert "toy-1" in str(refusal.value)
    assert str(len(run.front)) in str(refusal.value)


def test_a_run_itself_is_no_network(run: SearchResult) -> None:
    with pytest.raises(UsageError, match=r"toy-1#1"):
        resolve_arch(str(run.path))


def test_describe_accepts_every_network_of_a_front(run: SearchResult, hwnas: Run) -> None:
    for candidate in run.front[:3]:
        answer = hwnas("describe", f"{run.path}#{candidate.id}")
        assert answer.code == 0
        assert candidate.id in answer.out


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.yaml"):
        resolve_arch(f"{tmp_path}#1")
