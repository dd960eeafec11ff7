"""What a network was searched for stays with it; what becomes of it has a name and an id of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from train_samples import squares

from hwnas.errors import UsageError
from hwnas.predictors.accuracy.published import estimator
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.budget_check import check_targets, latency_bound_ms
from hwnas.search import load_run
from hwnas.space import SearchSpace, preset
from hwnas.space.changes import changed_name, renamed
from hwnas.targets import Promise, Target

Hwnas = Callable[..., Answer]
ARCH = preset("uniform-t")

# --- names ---


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "runs#1"),
        ({"classes": 10}, "runs#1 with 10 classes"),
        ({"resolution": 64}, "runs#1 at 64 px"),
        ({"stem_stride": 4}, "runs#1 at stem stride 4"),
        (
            {"resolution": 64, "stem_stride": 4, "classes": 10},
            "runs#1 with 10 classes at 64 px, stem stride 4",
        ),
    ],
)
def test_a_changed_network_is_named_after_what_it_is(changes: dict[str, int], name: str) -> None:
    changed = ARCH.adapted(**changes)
    assert renamed("runs#1", ARCH, changed) == name
    assert (changed.id == ARCH.id) == (name == "runs#1")


size = st.none() | st.integers(1, 2048)


@given(first=st.tuples(size, size, size), then=st.tuples(size, size, size))
def test_a_name_is_of_the_last_values_however_often_it_was_changed(
    first: tuple[int | None, ...], then: tuple[int | None, ...]
) -> None:
    def named(name: str, values: tuple[int | None, ...]) -> str:
        return changed_name(name, resolution=values[0], stem_stride=values[1], classes=values[2])

    last = tuple(old if new is None else new for old, new in zip(first, then, strict=True))
    assert named(named("a with b at c#1", first), then) == named("a with b at c#1", last)


# --- targets ---


def test_a_promise_comes_back_from_plain_data() -> None:
    promise = Promise((Target("rpi4", 20.0), Target("rpi5", 8.0, 0.9, "p95")), run="a", network=ARCH.id)
    assert Promise.from_dict(json.loads(json.dumps(promise.to_dict()))) == promise
    assert Promise.from_dict(None) is None


def test_a_check_compares_what_the_search_compared() -> None:
    latency = LatencyTable.load("rpi4").predict(ARCH)
    between_ms = (latency.value + latency_bound_ms(latency, 0.9)) / 2
    plain, sure = (
        check_targets(ARCH, Promise((Target("rpi4", between_ms, confidence),)))[0]
        for confidence in (None, 0.9)
    )
    assert not plain.is_over and "within" in str(plain)
    assert sure.is_over and "held with probability 0.9" in str(sure)
    assert (plain.held_ms, sure.held_ms) == (latency.value, latency_bound_ms(latency, 0.9))


def test_a_tail_is_predicted_where_the_table_knows_tails() -> None:
    table = LatencyTable.load("cpu-x86")
    median_ms = table.predict(ARCH).value
    (tail,) = check_targets(ARCH, Promise((Target("cpu-x86", median_ms * 1.0001, budget_on="p95"),)))
    assert tail.held_ms is not None and tail.held_ms > median_ms and tail.is_over
    (none,) = check_targets(ARCH, Promise((Target("rpi4", 20.0, budget_on="p95"),)))
    assert none.held_ms is None and not none.is_over and "no 95th percentiles" in str(none)


def test_a_latency_is_printed_with_the_digits_that_tell_it_from_the_budget() -> None:
    ms = LatencyTable.load("rpi4").predict(ARCH).value
    budget_ms = float(f"{ms:.3g}")
    assert budget_ms != ms
    assert f": {budget_ms:g} ms on" not in str(check_targets(ARCH, Promise((Target("rpi4", budget_ms),)))[0])


# --- checkpoints ---


def test_a_checkpoint_keeps_the_promise_and_one_without_is_still_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from train_samples import PLAIN_RECIPE

    from hwnas.io.tensors import read_sealed, sealed
    from hwnas.train.checkpoint import Checkpoint, load, save

    promise = Promise((Target("rpi4", 20.0),), run="a", network=ARCH.id)
    made = Checkpoint({}, ("cat", "dog"), PLAIN_RECIPE, (), name="net", promise=promise, arch=ARCH)
    save(made, tmp_path / "new.safetensors")
    assert load(tmp_path / "new.safetensors").promise == promise
    document, tensors = read_sealed(tmp_path / "new.safetensors", kind="hwnas checkpoint", version=1)
    earlier = {name: value for name, value in document.items() if name != "promise"}
    (tmp_path / "old.safetensors").write_bytes(sealed(tensors, earlier))
    old = load(tmp_path / "old.safetensors")
    assert old.promise is None
    assert dataclasses.replace(old, path=None) == dataclasses.replace(made, promise=None)


# --- searching what will be trained ---


def searched(hwnas: Hwnas, *words: str) -> Answer:
    return hwnas("search", "--device", "rpi4", "--budget", "20ms", "--trials", "10", "--out", "run", *words)


def test_a_search_looks_at_the_images(hwnas: Hwnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    squares(tmp_path / "data")
    answer = searched(hwnas, "--data", "data")
    assert answer.code == 0, answer.err
    assert "data: 3 classes, images of 20 px (median of 36)" in answer.err
    assert "at 64 px, stem stride 4, 3 classes" in answer.err
    run = load_run("run")
    assert (run.space.resolution, run.space.stem_stride, run.space.classes) == ((64,), (4,), 3)
    assert run.space.name == "default with 3 classes at 64 px, stem stride 4"
    assert run.config.targets == (Target("rpi4", 20.0),)
    again = hwnas("search", "--resume", "run", "--trials", "12", "--image-size", "64")
    assert again.code == 0, again.err
    other = hwnas("search", "--resume", "run", "--trials", "12", "--image-size", "96")
    assert other.code == 2 and "space was" in other.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--image-size", "4"), "--image-size must be from 8 to 2048, got 4"),
        (("--stem-stride", "3"), "--stem-stride must be 2, 4, 8 or 16, got 3"),
        (("--classes", "1"), "--classes must be from 2 to 100000, got 1"),
        (("--space", "small-images"), "cannot compare 32, 64 px"),
    ],
)
def test_a_size_that_cannot_be_searched_is_refused(
    hwnas: Hwnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = searched(hwnas, *words)
    assert answer.code == 2 and said in answer.err and not Path("run").exists()


def test_published_orders_small_networks_by_their_blocks_and_says_so() -> None:
    published = estimator()
    small = SearchSpace.default().adapted(resolution=32, stem_stride=4)
    assert "224 px, stem stride 16" in published.remark(small)
    assert published.remark(SearchSpace.default()) == ""
    with pytest.raises(UsageError, match="32, 64 px"):
        published.remark(SearchSpace.from_yaml("small-images"))
    for name in ("uniform-t", "efficientvit-m0", "shvit-s1"):
        known = published.predict(preset(name))
        assert published.predict(preset(name).adapted(resolution=32, stem_stride=4)) == known
