"""Several tables of one board: the answer is a network and the configuration it runs in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_fakes import all_vectors, by_size, dominates, small_space, table
from test_search_evolution import BySize

from hwnas.errors import UsageError
from hwnas.predictors.latency import Coefficients, DeviceProfile, LatencyTable
from hwnas.search import SearchResult, evolution, load_run, resume, search
from hwnas.search.candidates import CANDIDATES
from hwnas.search.configurations import INT8_PENALTY, BoardTables, split_device
from hwnas.search.output import document
from hwnas.search.run import PROGRESS

BUDGET_MS = 1.5
PENALTY = 0.6


def int8() -> LatencyTable:
    """The toy board in int8: MACs cost half, nodes 1.8 times as much: small networks are faster in fp32."""
    return dataclasses.replace(
        table("toy-int8"),
        profile=DeviceProfile(board="Toy", runtime="none", precision="int8"),
        coefficients=Coefficients((0.5e-7, 0.5e-7, 0.5e-7, 0.0, 0.0, 0.018)),
    )


def board() -> BoardTables:
    return BoardTables(("toy", "toy-int8"), (table(), int8()))


def searched(out: Path | None = None, **options: Any) -> SearchResult:
    asked: dict[str, Any] = {
        "device": board(),
        "budget_ms": BUDGET_MS,
        "accuracy": BySize(),
        "int8_penalty": PENALTY,
    }
    return search(small_space(), out=out, **asked | options)


def true_pairs(budget_ms: float = BUDGET_MS, penalty: float = PENALTY) -> set[tuple[float, float, str]]:
    """Latency, negated accuracy and table of all pairs that no other dominates, by enumeration."""
    vectors = np.array(all_vectors())
    values, _ = BySize().predict_many(vectors, small_space())
    points = [
        (float(f"{ms:.8g}"), -float(f"{value - cost:.8g}"), one.name)
        for one, cost in ((table(), 0.0), (int8(), penalty))
        for ms, value in zip(one.predict_many(vectors, small_space()), values, strict=True)
        if ms <= budget_ms
    ]
    points.sort()
    best: list[tuple[float, float, str]] = []
    for point in points:
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return set(best)


def shown(result: SearchResult) -> set[tuple[float, float, str]]:
    return {
        (float(f"{one.latency.value:.8g}"), -float(f"{one.accuracy.value:.8g}"), one.configuration)
        for one in result.front
    }


@pytest.mark.parametrize("enumerable", [0, evolution.ENUMERABLE])
def test_the_front_is_that_of_all_pairs_of_network_and_configuration(
    monkeypatch: pytest.MonkeyPatch, enumerable: int
) -> None:
    monkeypatch.setattr(evolution, "ENUMERABLE", enumerable)
    result, truth = searched(), true_pairs()
    assert {name for *_, name in truth} == {"toy", "toy-int8"}, "both are worth having here"
    found = shown(result)
    assert result.is_exact is bool(enumerable)
    assert not any(dominates(other[:2], point[:2]) for point in found for other in truth), "all are true ones"
    assert len(found) > 0.9 * len(truth)  # points that print the same are shown once


def test_the_record_holds_the_fastest_configuration_and_the_latency_in_all_within_the_budget() -> None:
    for trial in searched().trials:
        arch = small_space().decode(trial.vector)
        ms = {one.name: one.predict(arch).value for one in (table(), int8())}
        assert trial.configuration == min(ms, key=ms.__getitem__)
        assert trial.latency.value == pytest.approx(min(ms.values()), rel=1e-8)
        within = {f"latency {name}": value for name, value in ms.items() if value <= BUDGET_MS}
        assert {name: one.value for name, one in trial.also.items()} == pytest.approx(within, rel=1e-8)
        cost = PENALTY if trial.configuration == "toy-int8" else 0.0
        assert trial.accuracy.value == pytest.approx(BySize().predict(arch).value - cost, abs=1e-6)


def test_a_costly_estimator_is_asked_once_a_network_and_both_configurations_may_be_shown() -> None:
    asked: list[str] = []

    def costly(arch: Any) -> float:
        asked.append(arch.id)
        return by_size(arch)

    result = searched(accuracy=costly, trials=60)
    assert len(asked) == len(set(asked)) == 60
    by_id = {one.id: one for one in result.trials}
    for one in result.front:
        cost = PENALTY if one.configuration == "toy-int8" else 0.0
        assert one.accuracy.value == pytest.approx(by_size(one.arch) - cost)
        assert one.latency.value >= by_id[one.id].latency.value
    narrow = search(start_from=result, device=board(), budget_ms=1.2, accuracy=costly, trials=1)
    assert len(asked) == 60, "another budget asks nothing again"
    assert {one.id for one in narrow.trials} == {one.id for one in result.trials if one.latency.value <= 1.2}
    assert all(one.accuracy == by_id[one.id].accuracy for one in narrow.trials)


def test_a_run_is_read_and_resumed_and_says_its_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evolution, "ENUMERABLE", 0)
    whole, part = tmp_path / "whole", tmp_path / "part"
    result = searched(whole)
    assert load_run(whole) == result
    asked = iter(range(100))
    searched(part, stop=lambda: next(asked) >= 2)
    resume(part, device=board(), accuracy=BySize())
    for name in (CANDIDATES, PROGRESS):
        assert (part / name).read_bytes() == (whole / name).read_bytes()
    with pytest.raises(UsageError, match="configurations was"):
        resume(whole, device=board(), accuracy=BySize(), int8_penalty=0.1)
    front = json.loads((whole / "front.json").read_text())
    assert [one["configuration"] for one in front["front"]] == [one.configuration for one in result.front]
    assert [one["penalty"] for one in front["configurations"]] == [0.0, PENALTY]


def test_int8_costs_what_is_published_where_nothing_is_given() -> None:
    config = searched(int8_penalty=None).config
    assert [one.penalty for one in config.configurations] == [0.0, INT8_PENALTY]
    assert "ViT-B/16" in config.configurations[1].penalty_source
    with pytest.raises(UsageError, match="--int8-penalty must be from 0"):
        searched(int8_penalty=-1.0)
    with pytest.raises(UsageError, match="give several tables of one board"):
        searched(device=table())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cpu-x86,rpi4", "their board differs: cpu-x86: AMD EPYC, rpi4: Raspberry Pi 4B"),
        ("cpu-x86,cpu-x86-batch16", "their batch differs"),
        ("cpu-x86,cpu-x86", "each table may be given once"),
    ],
)
def test_tables_that_are_no_alternatives_are_refused(device: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        search(device=device, budget_ms=5.0)


def test_a_comma_in_a_files_name_is_no_list(tmp_path: Path) -> None:
    file = tmp_path / "a,b.yaml"
    file.write_text("")
    assert split_device(str(file)) == [str(file)]
    assert split_device("a,b") == ["a", "b"]


def test_a_network_of_the_front_brings_its_own_table_as_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.named import promise_of_run, resolve_promised
    from hwnas.report import write_report

    for one in (table(), int8()):
        one.save(tmp_path / f"{one.name}.yaml")
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path))
    result = searched(tmp_path / "run", device="toy,toy-int8")
    for rank, candidate in enumerate(result.front, start=1):
        name, arch, promise = resolve_promised(f"{tmp_path / 'run'}#{rank}")
        assert (name, arch) == (f"run#{rank}", candidate.arch)
        assert promise is not None and promise.network == candidate.id
        assert [one.device for one in promise.targets] == [candidate.configuration]
    assert promise_of_run(result, result.front[0].arch).targets[0].device == result.front[0].configuration
    page = write_report(result).read_text()
    assert "<th>configuration</th>" in page and "It runs in toy" in page
    assert f"lowered by {PENALTY:g}" in page and "The front is exact" in page
    assert document(result)["exact"]


def test_an_export_for_another_runtime_than_the_searchs_says_how_to_export_for_that() -> None:
    from hwnas.cli.export import _other_configuration
    from hwnas.targets import Promise, Target

    int8 = Promise((Target("cpu-x86-int8", 4.0),))
    (line,) = _other_configuration(int8, "onnx", "fp32")
    assert line.endswith("export with --format onnx --precision int8 --calibration DATA")
    assert _other_configuration(int8, "onnx", "int8") == []
    (line,) = _other_configuration(Promise((Target("cpu-x86-ncnn", 4.0),)), "onnx", "fp32")
    assert line.endswith("export with --format ncnn --precision fp32")
    assert _other_configuration(Promise((Target("rpi4", 4.0),)), "onnx", "fp32") == [], "runtime inferred"
    assert _other_configuration(None, "onnx", "fp32") == []
