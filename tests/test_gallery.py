"""docs/gallery: the files describe and predict as printed. A table has changed: run docs/gallery/make.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from schema_checks import check

from hwnas.errors import UsageError
from hwnas.gallery import INDEX, Entry, entries, entry, folder
from hwnas.named import resolve_arch, resolve_promised, subjects
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency import LatencyTable, device_names
from hwnas.space import count_macs, count_params, lower

AGAIN = "make the gallery again: python docs/gallery/make.py {}"
ENTRIES = entries()


@lru_cache
def table_of(device: str) -> LatencyTable:
    return LatencyTable.load(Path(__file__).parents[1] / "latency_tables" / f"{device}.yaml")


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: one.name)
def test_a_network_of_the_gallery_is_and_predicts_what_is_printed(one: Entry) -> None:
    again = AGAIN.format(one.device)
    arch, table = one.arch, table_of(one.device)
    assert arch.id == one.id, again
    ops = lower(arch)
    assert (count_params(ops), count_macs(ops)) == (one.params, one.macs), again
    predicted = table.predict(arch)
    for value, printed in (
        (predicted.value, one.latency.value),
        (predicted.low, one.latency.low),
        (predicted.high, one.latency.high),
    ):
        assert value == pytest.approx(printed, rel=1e-4), again
    assert (table.provenance, table.digest) == (one.provenance, one.table_digest), again
    assert one.latency.value <= one.budget_ms
    told = load_accuracy("published").predict(arch)
    assert (told.value, told.std) == pytest.approx((one.accuracy.value, one.accuracy.std), rel=1e-4), again


def test_every_device_that_ships_has_two_networks_or_more() -> None:
    shipped = {file.stem for file in (Path(__file__).parents[1] / "latency_tables").glob("*.yaml")}
    assert shipped <= set(device_names())
    counts = {device: sum(one.device == device for one in ENTRIES) for device in shipped}
    few = [device for device, count in counts.items() if count < 2]
    assert not few, AGAIN.format(" ".join(few))


def test_the_folder_has_the_files_of_the_index_and_no_others() -> None:
    assert {file.stem for file in folder().glob("*.yaml")} == {one.name for one in ENTRIES}
    assert all(file.stat().st_size < 4000 for file in folder().glob("*.yaml"))
    check("gallery", json.loads((folder() / INDEX).read_text()))


def test_the_verb_lists_by_device_and_budget_and_gives_names_for_other_verbs(
    hwnas: Callable[..., Any],
) -> None:
    answer = hwnas("gallery", "--device", "rpi4", "--budget", "20ms", "--json")
    rows = json.loads(answer.out)["networks"]
    assert answer.code == 0 and rows
    assert all(row["device"] == "rpi4" and row["latency_ms"] <= 20 for row in rows)
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    described = json.loads(hwnas("describe", rows[0]["arch"], "--device", "rpi4", "--json").out)
    assert described["id"] == rows[0]["id"]
    assert described["latency_ms"] == pytest.approx(rows[0]["latency_ms"], rel=1e-4)
    shown = hwnas("gallery", "--device", "rpi4")
    assert "rpi4-20ms" in shown.out and "hwnas describe gallery:rpi4-" in shown.out


def test_a_network_of_the_gallery_keeps_its_budget() -> None:
    name, arch, promise = resolve_promised("gallery:rpi4-20ms")
    assert name == "rpi4-20ms" and resolve_arch("gallery:rpi4-20ms") == (name, arch)
    assert promise is not None and promise.network == arch.id
    assert [str(target) for target in promise.targets] == ["20 ms on rpi4"]
    assert subjects(["gallery:rpi4-20ms"])[name].promise == promise


def test_what_the_gallery_does_not_have_is_named() -> None:
    with pytest.raises(UsageError, match=r"no network 'rpi4-20m' in the gallery\. Did you mean 'rpi4-20ms'"):
        entry("gallery:rpi4-20m")
    with pytest.raises(UsageError, match="no network for 'my-board'.*hwnas search --device my-board"):
        entries(devices=["my-board"])
