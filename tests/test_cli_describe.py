"""The verbs that only read: describe, devices, models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.errors import UsageError
from hwnas.predictors.latency import Coefficients, DeviceProfile, HeldOut, HeldOutNetwork, LatencyTable, Row
from hwnas.predictors.latency.features import FEATURE_NAMES
from hwnas.space import ArchSpec, count_macs, count_params, lower, preset, preset_names
from hwnas.units import parse_throughput

Run = Callable[..., Any]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatencyTable:
    """A table of coefficients, found under the name `toy-board`, wrong by 10 % and by 20 %."""
    table = LatencyTable(
        name="toy-board",
        profile=DeviceProfile(board="Toy", runtime="onnxruntime", runtime_version="1.31", threads=2),
        provenance="estimated",
        coefficients=Coefficients(tuple(1e-6 for _ in FEATURE_NAMES), offset_ms=0.25),
        heldout=HeldOut((HeldOutNetwork("a", 10.0, 11.0), HeldOutNetwork("b", 10.0, 8.0))),
        created="2026-11-21",
    )
    table.save(tmp_path / "toy-board.yaml")
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path))
    return table


def test_describe_counts_what_the_space_counts(hwnas: Run) -> None:
    document = json.loads(hwnas("describe", "uniform-t", "--json").out)
    ops = lower(preset("uniform-t"))
    assert document["schema"] == 1
    assert document["name"] == "uniform-t"
    assert document["id"] == preset("uniform-t").id
    assert document["params"] == count_params(ops) == sum(op["params"] for op in document["ops"])
    assert document["macs"] == count_macs(ops) == sum(op["macs"] for op in document["ops"])
    assert document["weight_bytes"] == sum(op["weight_bytes"] for op in document["ops"])
    assert document["weight_bytes"] == pytest.approx(4 * count_params(ops, folded=True), rel=0.01)
    assert [op["key"] for op in document["ops"]] == [op.key for op in ops]
    assert "latency_ms" not in document
    assert {op["latency_ms"] for op in document["ops"]} == {None}


def test_what_describe_prints_as_arch_is_an_architecture_file(hwnas: Run, tmp_path: Path) -> None:
    document = json.loads(hwnas("describe", "shvit-s2", "--json").out)
    assert ArchSpec.from_dict(document["arch"]) == preset("shvit-s2")
    file = tmp_path / "again.yaml"
    file.write_text(json.dumps(document["arch"]))
    again = json.loads(hwnas("describe", str(file), "--json").out)
    assert again == {**document, "name": "again"}


def test_describe_says_the_latency_its_interval_and_that_it_is_estimated(
    hwnas: Run, board: LatencyTable
) -> None:
    document = json.loads(hwnas("describe", "uniform-t", "--device", "toy-board", "--json").out)
    predicted = board.predict(preset("uniform-t"))
    assert document["device"] == "toy-board"
    assert document["provenance"] == "estimated"
    assert document["latency_ms"] == pytest.approx(predicted.value)
    assert document["latency_low_ms"] == pytest.approx(predicted.low)
    assert document["latency_high_ms"] == pytest.approx(predicted.high)
    assert document["latency_low_ms"] < document["latency_ms"] < document["latency_high_ms"]
    per_op = [op["latency_ms"] for op in document["ops"]]
    assert document["offset_ms"] == 0.25
    assert sum(per_op) + 0.25 == pytest.approx(document["latency_ms"])

    said = hwnas("describe", "uniform-t", "--device", "toy-board").out
    assert f"{predicted.value:.2f} ms" in said
    assert f"{predicted.low:.2f} to {predicted.high:.2f} ms" in said
    assert "estimated" in said
    assert "reuse(c=128,side=7,heads=4,kernels=1-3-5-7)" in said


def test_a_table_without_a_row_for_an_op_is_refused_with_the_op(
    hwnas: Run, tmp_path: Path, board: LatencyTable
) -> None:
    table = LatencyTable(
        name="one-row",
        profile=board.profile,
        provenance="measured",
        rows={"dw(c=64,side=14)": Row(ms=0.1, low_ms=0.1, high_ms=0.1, p95_ms=0.1)},
        created="2026-11-21",
    )
    table.save(tmp_path / "one-row.yaml")
    answer = hwnas("describe", "uniform-t", "--device", "one-row")
    assert answer.code == 6
    assert "stem(c=64,resolution=224,stride=16)" in answer.err
    assert answer.out == ""


def test_a_table_is_also_found_by_its_file(hwnas: Run, tmp_path: Path, board: LatencyTable) -> None:
    by_file = hwnas("describe", "uniform-t", "--device", str(tmp_path / "toy-board.yaml"), "--json")
    by_name = hwnas("describe", "uniform-t", "--device", "toy-board", "--json")
    assert by_file == by_name


def test_devices_lists_each_with_its_error_and_where_it_is_from(hwnas: Run, board: LatencyTable) -> None:
    devices = {device["name"]: device for device in json.loads(hwnas("devices", "--json").out)["devices"]}
    toy = devices["toy-board"]
    assert toy["board"] == "Toy"
    assert toy["runtime"] == "onnxruntime"
    assert toy["threads"] == 2
    assert toy["provenance"] == "estimated"
    assert toy["heldout_mape_percent"] == pytest.approx(15.0)
    assert toy["date"] == "2026-11-21"
    line = next(line for line in hwnas("devices").out.splitlines() if line.startswith("toy-board"))
    for part in ("Toy", "onnxruntime 1.31", "2", "estimated", "15.0", "2026-11-21"):
        assert part in line


def test_devices_marks_what_is_inferred(hwnas: Run, tmp_path: Path, board: LatencyTable) -> None:
    profile = dataclasses.replace(board.profile, inferred={"threads": "arithmetic"})
    dataclasses.replace(board, name="inferred-board", profile=profile).save(tmp_path / "inferred-board.yaml")
    line = next(line for line in hwnas("devices").out.splitlines() if line.startswith("inferred-board"))
    assert "(2)" in line.split()
    devices = {device["name"]: device for device in json.loads(hwnas("devices", "--json").out)["devices"]}
    assert devices["inferred-board"]["inferred"] == {"threads": "arithmetic"}
    assert devices["toy-board"]["inferred"] == {}


def test_describe_gives_images_per_second_of_a_batch_profile(
    hwnas: Run, tmp_path: Path, board: LatencyTable
) -> None:
    profile = dataclasses.replace(board.profile, batch=64)
    dataclasses.replace(board, name="batch-board", profile=profile).save(tmp_path / "batch-board.yaml")
    document = json.loads(hwnas("describe", "uniform-t", "--device", "batch-board", "--json").out)
    assert document["images_per_s"] == pytest.approx(64_000 / document["latency_ms"])
    assert (
        f"{document['images_per_s']:,.0f} images/s"
        in hwnas("describe", "uniform-t", "--device", "batch-board").out
    )
    assert "images/s" not in hwnas("describe", "uniform-t", "--device", "toy-board").out


@pytest.mark.parametrize("text", ["40000", "40000 ms", "-1/s", "0/s", "many/s"])
def test_a_throughput_is_images_per_second(text: str) -> None:
    with pytest.raises(UsageError, match="images per second"):
        parse_throughput(text)


def test_a_throughput_is_the_budget_of_a_run(tmp_path: Path, board: LatencyTable) -> None:
    from hwnas.cli.search import _budgets_ms

    profile = dataclasses.replace(board.profile, batch=64)
    dataclasses.replace(board, name="batch-board", profile=profile).save(tmp_path / "batch-board.yaml")
    assert parse_throughput("40k/s") == parse_throughput("40000/s") == 40_000
    assert _budgets_ms([], ["32000/s"], ["batch-board"]) == [pytest.approx(2.0)]
    assert _budgets_ms([], ["1000/s"], ["toy-board"]) == [pytest.approx(1.0)]
    assert _budgets_ms(["32000/s", "3ms"], [], ["batch-board", "toy-board"]) == [pytest.approx(2.0), 3.0]
    with pytest.raises(UsageError, match="do not go together.*--budget 32000/s --budget 2ms"):
        _budgets_ms(["2ms"], ["32000/s"], ["batch-board"])
    with pytest.raises(UsageError, match="each --device"):
        _budgets_ms([], ["32000/s"], ["batch-board", "toy-board"])


def test_devices_leaves_out_a_broken_table_and_says_so(
    hwnas: Run, tmp_path: Path, board: LatencyTable
) -> None:
    (tmp_path / "torn.yaml").write_text("format: hwnas latency table\nschema: 1\n")
    answer = hwnas("devices", "--json")
    assert answer.code == 0
    names = [device["name"] for device in json.loads(answer.out)["devices"]]
    assert "toy-board" in names
    assert "torn" not in names
    assert "torn.yaml" in answer.err


def test_models_lists_every_preset_with_the_counts_of_the_space(hwnas: Run) -> None:
    models = {model["name"]: model for model in json.loads(hwnas("models", "--json").out)["models"]}
    assert tuple(models) == preset_names()
    assert models["efficientvit-m0"]["params"] == 2_349_436  # hand count, BatchNorm not folded
    assert models["efficientvit-m0"]["published_top1_percent"] == 63.2  # EfficientViT, table 2
    assert round(models["shvit-s4"]["macs"] / 1e6, 2) == 986.22
    assert models["elevit-l"]["published_top1_percent"] is None
    table = hwnas("models").out
    assert all(name in table for name in preset_names())
