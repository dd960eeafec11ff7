"""`hwnas space`: what it says of a space is what enumeration says; what it writes can be searched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from search_fakes import SMALL, all_vectors, small_space, table

from hwnas.search.space_profile import profile_space
from hwnas.space.search_space import SearchSpace

Run = Callable[..., Any]


def test_the_fastest_and_the_slowest_network_are_those_that_enumeration_finds() -> None:
    profile = profile_space(small_space(), table())
    ms = table().predict_many(np.array(all_vectors()), small_space())
    assert profile.size == len(all_vectors())
    assert profile.smallest["latency"] == pytest.approx(ms.min())
    assert profile.largest["latency"] == pytest.approx(ms.max())
    assert profile.smallest["latency"] < profile.quantiles["latency"][0] < profile.largest["latency"]


def test_a_wider_stage_costs_more() -> None:
    costs = {(one.decision, one.choice): one for one in profile_space(small_space(), table()).costs}
    widths = [costs["stages.0.width", str(width)] for width in (32, 48, 64)]
    assert [one.macs for one in widths] == sorted(one.macs for one in widths)
    latencies = [one.latency_ms for one in widths]
    assert None not in latencies and latencies == sorted(latencies)  # type: ignore[type-var]
    assert (
        costs["stages.1.attention", "none"].macs
        < costs["stages.1.attention", "reuse heads=2 kernels=3-5"].macs
    )


def test_describe_prints_the_smallest_budget_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latency_tables").mkdir()
    table().save(tmp_path / "latency_tables" / "toy.yaml")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    said = json.loads(hwnas("space", "describe", "small.yaml", "--device", "toy", "--json").out)
    assert said["device"] == "toy" and said["provenance"] == "estimated"
    assert len(said["quantiles"]["latency"]) == len(said["quantiles"]["at"])
    shown = hwnas("space", "describe", "small.yaml", "--device", "toy")
    assert shown.code == 0
    assert f"at least {said['smallest']['latency']:.4g} ms" in shown.out
    assert hwnas("space", "describe", "small.yaml").code == 0


def test_a_new_space_is_valid_and_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hwnas("space", "new", "mine.yaml").code == 0
    space = SearchSpace.from_yaml(tmp_path / "mine.yaml")
    assert space.name == "mine" and space.size > 1000
    assert "mine.yaml: valid" in hwnas("space", "check", "mine.yaml").out
    again = hwnas("space", "new", "mine.yaml")
    assert again.code == 2 and "exists" in again.err


def test_a_space_with_a_mistake_is_refused(tmp_path: Path, hwnas: Run) -> None:
    wrong = SMALL | {"resolution": [96, 64]}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    answer = hwnas("space", "check", str(tmp_path / "wrong.yaml"))
    assert answer.code == 2 and "resolution" in answer.err
