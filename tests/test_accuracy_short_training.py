"""The estimator `short-training`: who is trained on, what a curve that was ended early says, its journal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

import pytest

pytest.importorskip("torch")

from train_samples import ARCH, squares

from hwnas.errors import FileFormatError, UsageError
from hwnas.predictors.accuracy import _brief_training, load_accuracy
from hwnas.predictors.accuracy._halving import Halving, band
from hwnas.predictors.accuracy.short_training import estimator
from hwnas.space import ArchSpec

SETTINGS = "images=30,test=24,batch=6,side=16,stem=4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("short") / "data", train=10, test=8)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *arguments: object, **options: object) -> None:
            raise AssertionError("this network was trained already")

    monkeypatch.setattr(_brief_training, "BriefTraining", Refusing)


def wider(width: int) -> ArchSpec:
    """ARCH with another width of its last stage."""
    last = dataclasses.replace(ARCH.stages[1], width=width)
    return dataclasses.replace(ARCH, stages=(ARCH.stages[0], last))


def run(halving: Halving, macs: int, accuracies: Sequence[float]) -> int:
    """Reports accuracies until the pruner ends the training; how many epochs it had."""
    trial = halving.begun(macs)
    curve: list[float] = []
    for accuracy in accuracies:
        curve.append(accuracy)
        trial.report(accuracy, len(curve))
        if len(curve) < halving.epochs and trial.should_prune():
            break
    halving.ended(macs, trial, curve)
    return len(curve)


# --- who is trained on ---


def test_only_the_better_half_of_those_so_far_goes_on_at_each_rung() -> None:
    halving = Halving(epochs=2, test_images=1000)
    # After epoch 1, 50 is the best so far; 40 is in the worse half of 2; 60 in the better one of 3; of
    # 50, 40, 60, 45 the better half is 60 and 50.
    lengths = [run(halving, 10_000_000, (first, 70.0)) for first in (50.0, 40.0, 60.0, 45.0)]
    assert lengths == [2, 1, 2, 1]


def test_a_small_network_does_not_compete_with_a_large_one() -> None:
    halving = Halving(epochs=2, test_images=1000)
    assert band(10_000_000) != band(40_000_000)
    assert run(halving, 40_000_000, (60.0, 70.0)) == 2
    assert run(halving, 10_000_000, (30.0, 40.0)) == 2, "the first of its size"
    assert run(halving, 10_500_000, (25.0, 40.0)) == 1, "the worse one of its size"


def test_curves_of_an_earlier_process_decide_as_if_they_were_new() -> None:
    curves = [(50.0, 55.0, 60.0, 66.0), (40.0,), (60.0, 61.0, 70.0, 72.0), (55.0, 56.0)]
    live, restored = (Halving(epochs=4, test_images=1000) for _ in range(2))
    for curve in curves:
        assert run(live, 10_000_000, (*curve, 0.0)[:4]) == len(curve)
        restored.restored(10_000_000, curve)
    for accuracies in ((52.0, 57.0, 80.0, 81.0), (70.0, 75.0, 80.0, 81.0), (10.0, 11.0, 12.0, 13.0)):
        assert run(live, 10_000_000, accuracies) == run(restored, 10_000_000, accuracies)


# --- what a curve says ---


def test_a_training_that_was_ended_early_gains_what_others_gained_from_there() -> None:
    halving = Halving(epochs=3, test_images=400)
    for curve in ((10.0, 20.0, 40.0), (20.0, 30.0, 60.0)):
        halving.restored(10_000_000, curve)
    estimate = halving.estimate((25.0,))
    assert estimate.value == 25 + (30 + 40) / 2 and estimate.unit == "%"
    sampling = 100 * math.sqrt(0.25 * 0.75 / 400)
    assert estimate.std == pytest.approx(math.hypot(sampling, stdev((30, 40))))


def test_a_finished_training_is_its_own_accuracy_with_the_noise_of_a_measurement() -> None:
    halving = Halving(epochs=3, test_images=400)
    for curve in ((10.0, 20.0, 40.0), (20.0, 30.0, 60.0)):
        halving.restored(10_000_000, curve)
    estimate = halving.estimate((10.0, 20.0, 40.0))
    assert estimate.value == 40
    # The last epoch brought 20 and 30: each accuracy has half of that variance.
    assert estimate.std == pytest.approx(stdev((20, 30)) / math.sqrt(2))
    few = Halving(epochs=1, test_images=25)
    few.restored(10_000_000, (50.0,))
    assert few.estimate((50.0,)).std == pytest.approx(10), "25 images know 50 % within 10 points"


def test_the_earlier_a_training_was_ended_the_less_is_known() -> None:
    halving = Halving(epochs=4, test_images=10_000)
    for curve in ((10.0, 30.0, 40.0, 42.0), (30.0, 34.0, 43.0, 44.0), (20.0, 33.0, 40.0, 43.0)):
        halving.restored(10_000_000, curve)
    stds = [halving.estimate((25.0, 35.0, 41.0, 43.0)[:epochs]).std for epochs in (1, 2, 4)]
    assert stds == sorted(stds, reverse=True)


# --- training ---


@pytest.mark.slow
def test_a_few_epochs_on_few_images_beat_guessing_and_repeat(data: Path) -> None:
    once, again = (load_accuracy(f"short-training:{data},epochs=12,{SETTINGS}").predict(ARCH) for _ in "12")
    assert once == again
    assert once.value > 60, "one in three would be guessing"
    assert once.std > 0 and once.unit == "%"


@pytest.mark.slow
def test_what_the_journal_holds_is_not_trained_again(
    data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    reference = f"{data},epochs=2,{SETTINGS},journal={tmp_path / 'curves.jsonl'}"
    archs = [ARCH, wider(40), wider(24)]
    before = estimator(reference).estimates(archs)
    request.getfixturevalue("no_training")
    assert estimator(reference).estimates(archs) == before
    with pytest.raises(AssertionError, match="already"):
        estimator(reference.replace("epochs=2", "epochs=3")).predict(ARCH)


def test_one_network_is_trained_once(data: Path, request: pytest.FixtureRequest) -> None:
    made = estimator(f"{data},epochs=1,{SETTINGS}")
    first = made.predict(ARCH)
    request.getfixturevalue("no_training")
    assert made.predict(ARCH.adapted(resolution=224, classes=1000)) == first, "adapted, it is the same"


def test_a_damaged_journal_is_named_with_its_line(data: Path, tmp_path: Path) -> None:
    journal = tmp_path / "curves.jsonl"
    journal.write_text("what is this\n")
    with pytest.raises(FileFormatError, match=r"curves\.jsonl: line 1: not a learning curve"):
        estimator(f"{data},journal={journal}")


def test_without_images_there_is_nothing_to_train_on() -> None:
    with pytest.raises(UsageError, match="'short-training:DATA'"):
        estimator(None)
