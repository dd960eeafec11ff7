"""Several devices, limits and objectives: every network keeps all bounds, and the front is of all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from search_fakes import SMALL, all_vectors, by_size, dominates, of_schema_1, small_space, table, trial

from hwnas.errors import InfeasibleError, UsageError
from hwnas.estimate import Estimate
from hwnas.io.jsonl import read_log
from hwnas.predictors.latency import Coefficients, LatencyTable, Row
from hwnas.search import load_run, resume, search
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES
from hwnas.search.front import best
from hwnas.search.objectives import Latency, Size, Tail
from hwnas.search.run import RUN
from hwnas.space.ops import count_macs, count_params, lower, peak_activation_bytes


def depthwise_board(name: str = "slow-depthwise") -> LatencyTable:
    """A board on which a node is dear and a MAC is cheap: it orders networks otherwise than `toy`."""
    return dataclasses.replace(table(name), coefficients=Coefficients((2e-8, 2e-8, 2e-8, 0.0, 0.0, 0.03)))


def asked(**options: Any) -> dict[str, Any]:
    return {"device": [table(), depthwise_board()], "budget_ms": [0.9, 1.7], "accuracy": by_size} | options


def test_networks_for_two_devices_keep_both_budgets_and_some_would_break_each() -> None:
    space = small_space()
    first, second = (
        table().predict_many(all_vectors(), space),
        depthwise_board().predict_many(all_vectors(), space),
    )
    assert ((first <= 0.9) & (second > 1.7)).any() and ((first > 0.9) & (second <= 1.7)).any()
    result = search(space, trials=60, **asked())
    assert len(result.trials) == 60
    for one in result.trials:
        assert one.latency.value == pytest.approx(table().predict(space.decode(one.vector)).value)
        other = one.also["latency slow-depthwise"]
        assert other.value == pytest.approx(depthwise_board().predict(space.decode(one.vector)).value)
        assert one.latency.value <= 0.9 and other.value <= 1.7
        assert other.low is not None and other.low < other.value


def test_no_network_on_a_front_of_three_objectives_is_beaten_in_all_of_them() -> None:
    result = search(small_space(), trials=60, **asked())
    points = [
        (one.latency.value, one.also["latency slow-depthwise"].value, -one.accuracy.value)
        for one in result.front
    ]
    assert len(points) > 2
    for one in result.trials:
        point = (one.latency.value, one.also["latency slow-depthwise"].value, -one.accuracy.value)
        # numbers are compared as printed, with four digits
        assert not any(dominates([x * 1.001 for x in point[:2]] + [point[2] * 0.999], p) for p in points)
    assert [one.accuracy.value for one in result.front] == sorted(
        (one.accuracy.value for one in result.front), reverse=True
    )


def test_a_front_by_value_and_by_lower_bound_shows_no_network_that_another_one_beats() -> None:
    bold = trial(5.0, 80.0, std=3.0, name="bold")
    sure = trial(5.0, 79.0, std=0.5, name="sure")
    worse = trial(6.0, 78.0, std=0.5, name="worse")
    small = dataclasses.replace(trial(7.0, 70.0, name="small"), also={"memory": Estimate(1.0)})
    trials = [dataclasses.replace(one, also={"memory": Estimate(2.0)}) for one in (bold, sure, worse)]
    assert [one.id for one in best([*trials, small], minimised=("latency", "memory"))] == ["sure", "small"]


@pytest.mark.parametrize("name", ["params", "macs", "memory"])
def test_a_size_in_arrays_is_what_counting_the_ops_gives(name: str) -> None:
    vectors = all_vectors()[::97]
    counted = {
        "params": count_params,
        "macs": count_macs,
        "memory": lambda ops: sum(op.weight_bytes() for op in ops) + peak_activation_bytes(ops),
    }[name]
    expected = [counted(lower(small_space().decode(vector))) for vector in vectors]
    assert Size(name, small_space()).of(vectors).tolist() == expected


def test_limits_on_sizes_are_kept_and_an_objective_is_minimised() -> None:
    free = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60)
    held = search(
        small_space(),
        device=table(),
        budget_ms=0.9,
        accuracy=by_size,
        trials=60,
        limits={"params": 120_000, "memory": 900_000},
        objectives=["memory"],
    )
    assert max(one.params for one in free.trials) > 120_000
    assert max(one.params for one in held.trials) <= 120_000
    assert max(one.also["memory"].value for one in held.trials) <= 900_000
    assert held.config.minimised == ("latency", "memory")


def test_the_tail_weighs_each_ops_own_tail_with_its_share() -> None:
    space = small_space()
    vector = all_vectors()[0]
    ops = lower(space.decode(vector))
    ratios = {op.key: 1.0 + 0.1 * place for place, op in enumerate(dict.fromkeys(ops))}
    rows = {key: Row(1.0, 0.9, 1.1, p95_ms=ratio) for key, ratio in ratios.items()}
    tailed = dataclasses.replace(table(), rows=rows, coefficients=None, provenance="measured")
    expected = sum(ratios[op.key] for op in ops)  # each op takes 1 ms
    found = Tail(Latency(tailed, space), tailed, space)
    assert found.of([vector])[0] == pytest.approx(expected)
    assert found.estimate(vector).value == pytest.approx(expected)


def test_a_table_without_tails_says_so() -> None:
    with pytest.raises(UsageError, match="knows no 95th percentiles"):
        search(small_space(), device=table(), budget_ms=1, accuracy=by_size, budget_on="p95", trials=3)


def test_bounds_that_no_network_keeps_together_are_refused_with_the_nearest_network() -> None:
    with pytest.raises(InfeasibleError, match=r"within all limits.*latency toy .* of 0\.9 ms.*of 0\.1 ms"):
        search(small_space(), trials=3, **asked(budget_ms=[0.9, 0.1]))


def test_a_resumed_search_for_two_devices_ends_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    search(small_space(), trials=40, out=whole, **asked(limits={"params": 200_000}))
    count = iter(range(100))
    search(
        small_space(),
        trials=40,
        out=stopped,
        stop=lambda: next(count) >= 17,
        **asked(limits={"params": 200_000}),
    )
    assert len(load_run(stopped).trials) == 17
    resume(stopped, device=[table(), depthwise_board()])
    assert (stopped / CANDIDATES).read_bytes() == (whole / CANDIDATES).read_bytes()
    for changes, difference in (
        ({"budget_ms": [0.9, 0.8]}, "budget_ms 2 was"),
        ({"limits": {"params": 80_000.0}}, "limits was"),
        ({"objectives": ["memory"]}, "objectives was"),
        ({"budget_ms": [0.9]}, "got 1 budgets"),
    ):
        with pytest.raises(UsageError, match=difference):
            resume(stopped, device=[table(), depthwise_board()], **changes)  # type: ignore[arg-type]


def test_a_run_of_schema_1_is_read_as_a_search_for_one_device(tmp_path: Path) -> None:
    search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=5, out=tmp_path / "run")
    header = yaml.safe_load((tmp_path / "run" / RUN).read_text())
    (tmp_path / "run" / RUN).write_text(yaml.safe_dump(of_schema_1(header)))
    rows = read_log(tmp_path / "run" / CANDIDATES, CANDIDATE_LOG).rows  # then without a first line
    (tmp_path / "run" / CANDIDATES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert resume(tmp_path / "run", device=table()).config.devices == ("toy",)


def test_the_command_line_takes_several_devices_limits_and_objectives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency_tables").mkdir()
    table().save(tmp_path / "latency_tables" / "toy.yaml")
    depthwise_board().save(tmp_path / "latency_tables" / "slow-depthwise.yaml")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    devices = ["--device", "toy", "--device", "slow-depthwise"]
    limits = ["--max-params", "200k", "--max-memory", "1MB", "--minimise", "params"]
    others = ["--space", "small.yaml", "--accuracy", "search_fakes:by_size", "--trials", "30", "--out", "run"]
    options = [*devices, "--budget", "0.9ms", "--budget", "1.7ms", *limits, *others]
    answer = hwnas("search", *options, "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert [target["device"] for target in said["targets"]] == ["toy", "slow-depthwise"]
    assert said["limits"] == {"params": 200_000, "memory": 1_000_000}
    for network in said["front"]:
        assert network["latency_ms"] <= 0.9 and network["also"]["latency slow-depthwise"]["value"] <= 1.7
        assert network["params"] <= 200_000
    shown = hwnas("search", "--resume", "run", "--trials", "31")
    assert "within 0.9 ms on toy, 1.7 ms on slow-depthwise, 0.2 M parameters, 1 MB memory" in " ".join(
        shown.out.split()
    )
    assert hwnas("search", *options[:6], "--out", "x").code == 2  # two devices, one budget
    assert "--max-params must be" in hwnas("search", *options, "--max-params", "many").err


def test_one_network_and_many_at_once_cost_the_same() -> None:
    from hwnas.predictors.accuracy import load_accuracy
    from hwnas.search.api import problem_of

    result = search(small_space(), trials=3, **asked(confidence=0.9))
    problem = problem_of(result.config, small_space(), [table(), depthwise_board()], load_accuracy(by_size))
    some = all_vectors()[::53]
    assert problem.usages(some) == pytest.approx([problem.usage(vector) for vector in some])
    assert problem.feasible(some).tolist() == [problem.is_feasible(vector) for vector in some]
    assert problem.known_objectives(np.array(some)).shape == (len(some), 2)
