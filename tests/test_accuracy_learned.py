"""The estimator `learned`: what it learns from trainings, how sure it is, and the table that it reads."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from hwnas.errors import FileFormatError, UsageError
from hwnas.estimate import ArrayPredictor
from hwnas.metrics import kendall_tau
from hwnas.predictors.accuracy import load_accuracy, zero_cost
from hwnas.predictors.accuracy._learned_features import NAMES, learned_features
from hwnas.predictors.accuracy._learned_model import folds
from hwnas.predictors.accuracy._scores import Score
from hwnas.predictors.accuracy.learned import left_out
from hwnas.space import ArchSpec, SearchSpace, count_macs, count_params, lower, preset, preset_names
from hwnas.space.vectors import Moves
from hwnas.train.trainings import TABLE, read_trainings, remember, row_of

SPACE, RNG = SearchSpace.default(), random.Random(3)
ARCHS = [SPACE.sample(RNG).adapted(resolution=224, classes=10) for _ in range(40)]


def accuracy_percent(arch: ArchSpec) -> float:
    """A made-up truth: compute helps, attention with one head helps, deep last stages harm."""
    blocks = [block for stage in arch.stages for block in stage.blocks]
    single = sum(block is not None and block.type == "single-head" for block in blocks) / len(blocks)
    return 60 + 6 * math.log(count_macs(lower(arch)) / 250e6) + 6 * single - 0.5 * arch.stages[-1].depth


def document(
    arch: ArchSpec, top1_percent: float, *, seed: int = 0, epochs: int = 2, **recipe: Any
) -> dict[str, Any]:
    """What result.json says of a training, as far as the table takes it."""
    return {
        "id": arch.id,
        "seed": seed,
        "top1_percent": top1_percent,
        "history": [{"top1_percent": top1_percent}] * epochs,
        "train_seconds": 1.0,
        "data": {"name": "squares", "digest": "abc", "train_images": 36},
        "recipe": {"epochs": epochs, "image_size": 0, "stem_stride": 0, "seed": seed, "workers": 0, **recipe},
        "arch": arch.to_dict(),
    }


def table(folder: Path, archs: list[ArchSpec] = ARCHS, **changes: Any) -> Path:
    for arch in archs:
        remember(row_of(document(arch, accuracy_percent(arch), **changes)), folder / TABLE)
    return folder


# --- learning ---


def test_networks_left_out_are_ranked_much_better_than_by_parameters() -> None:
    truth = [accuracy_percent(arch) for arch in ARCHS]
    learnt = [estimate.value for estimate in left_out(ARCHS, truth, parts=4)]
    by_size = kendall_tau(truth, [count_params(lower(arch)) for arch in ARCHS])
    tau = kendall_tau(truth, learnt)
    assert tau is not None and by_size is not None
    assert tau > 0.7 and tau > by_size + 0.15


def test_about_nine_in_ten_networks_left_out_lie_in_their_interval() -> None:
    noise = random.Random(1)
    truth = [accuracy_percent(arch) + noise.gauss(0, 1) for arch in ARCHS]
    inside = [
        estimate.low <= value <= estimate.high  # type: ignore[operator]
        for estimate, value in zip(left_out(ARCHS, truth, parts=4), truth, strict=True)
    ]
    assert 0.78 <= np.mean(inside) <= 1


def test_a_network_unlike_all_that_were_trained_is_less_sure(tmp_path: Path) -> None:
    learnt = load_accuracy(f"learned:{table(tmp_path)}")
    known = np.median([learnt.predict(arch).std for arch in ARCHS])
    foreign = next(preset(name) for name in preset_names() if name.startswith("elevit"))
    assert learnt.predict(foreign).std > 1.5 * known


@pytest.mark.slow
def test_seeds_of_one_network_count_as_one_with_their_mean(tmp_path: Path) -> None:
    twice, once = tmp_path / "twice", tmp_path / "once"
    for folder in (twice, once):
        folder.mkdir()
    table(once)
    for seed, off in ((0, -1.0), (1, 1.0)):
        for arch in ARCHS:
            remember(row_of(document(arch, accuracy_percent(arch) + off, seed=seed)), twice / TABLE)
    for arch in ARCHS[:3]:
        first, second = (load_accuracy(f"learned:{folder}").predict(arch) for folder in (twice, once))
        assert first.value == pytest.approx(second.value) and first.std == pytest.approx(second.std)


def test_a_candidate_is_seen_as_the_trained_networks_were_adapted(tmp_path: Path) -> None:
    """Trained at 32 pixels behind a stem of stride 4, searched at 224 behind one of 16: one network."""
    small = [arch.adapted(resolution=32, stem_stride=4) for arch in ARCHS]
    learnt = load_accuracy(f"learned:{table(tmp_path, small, image_size=32, stem_stride=4)}")
    searched = ARCHS[5].adapted(classes=1000)
    assert learnt.predict(searched) == learnt.predict(small[5])


def test_zero_cost_scores_are_learnt_from_too_and_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from train_samples import squares

    images = squares(tmp_path / "images", train=4, test=1)
    table(
        tmp_path,
        [arch.adapted(resolution=16, stem_stride=4, classes=3) for arch in ARCHS[:8]],
        image_size=16,
        stem_stride=4,
    )
    asked: list[str] = []

    def counted(arch: ArchSpec, batches: Any, proxies: Any, *, seed: int) -> dict[str, Score]:
        asked.append(arch.id)
        return {name: Score(accuracy_percent(arch), 1.0) for name in proxies}

    monkeypatch.setattr(zero_cost, "scores", counted)
    before = load_accuracy(f"learned:{tmp_path},data={images}").predict(ARCHS[0])
    assert len(asked) == 8
    assert load_accuracy(f"learned:{tmp_path},data={images}").predict(ARCHS[0]) == before
    assert len(asked) == 8, "what was computed is kept beside the table"
    assert load_accuracy(f"learned:{tmp_path}").predict(ARCHS[0]) != before


def test_every_network_there_is_has_finite_features() -> None:
    for arch in [*map(preset, preset_names()), *ARCHS]:
        features = learned_features(arch)
        assert features.shape == (len(NAMES),) and np.isfinite(features).all()


def test_every_row_is_left_out_exactly_once() -> None:
    parts = folds(23, 5)
    assert np.sum(parts, axis=0).tolist() == [1] * 23
    assert sorted(int(part.sum()) for part in parts) == [4, 4, 5, 5, 5]
    assert len(folds(3, 10)) == 3


# --- the table ---


def test_a_line_holds_the_network_its_condition_and_its_accuracy(tmp_path: Path) -> None:
    remember(row_of(document(ARCHS[0], 61.5, seed=4)), tmp_path / TABLE)
    (training,) = read_trainings(tmp_path)
    assert (training.arch, training.seed, training.top1_percent) == (ARCHS[0], 4, 61.5)
    assert training.condition.label == "squares, 36 images, 2 epochs"
    assert (training.condition.resolution, training.condition.classes) == (None, 10)


def test_seed_and_workers_make_no_other_condition_but_everything_else_does(tmp_path: Path) -> None:
    alike = [document(ARCHS[0], 60, seed=1), document(ARCHS[0], 60, seed=2, workers=3)]
    other_data = document(ARCHS[0], 60)
    other_data["data"] = {**other_data["data"], "digest": "def"}
    others = [
        row_of(document(ARCHS[0], 60, epochs=3)),
        row_of(other_data),
        row_of(alike[0], init="uniform-t"),
    ]
    for row in [*map(row_of, alike), *others]:
        remember(row, tmp_path / TABLE)
    keys = [training.condition.key for training in read_trainings(tmp_path)]
    assert keys[0] == keys[1] and len(set(keys)) == 4


def test_the_later_of_two_trainings_of_one_network_counts(tmp_path: Path) -> None:
    for top1_percent in (60.0, 62.0):
        remember(row_of(document(ARCHS[0], top1_percent)), tmp_path / TABLE)
    assert [training.top1_percent for training in read_trainings(tmp_path)] == [62.0]


def test_a_line_that_a_kill_has_torn_is_none_and_goes_with_the_next(tmp_path: Path) -> None:
    file = tmp_path / TABLE
    remember(row_of(document(ARCHS[0], 60.0)), file)
    with file.open("a") as opened:
        opened.write('{"schema": 1, "id"')
    assert len(read_trainings(tmp_path)) == 1
    remember(row_of(document(ARCHS[1], 61.0)), file)
    assert [training.arch for training in read_trainings(file)] == ARCHS[:2]


@pytest.mark.parametrize("line", ["{}", "nothing", '{"schema": 2}', '{"schema": 1, "arch": {"format": 1}}'])
def test_a_line_that_is_no_training_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / TABLE).write_text(line + "\n")
    with pytest.raises(FileFormatError, match=r"trainings\.jsonl: line 1"):
        read_trainings(tmp_path)


def test_the_condition_with_the_most_networks_is_learnt_from_unless_one_is_named(tmp_path: Path) -> None:
    table(tmp_path, ARCHS[:20])
    table(tmp_path, ARCHS[:9], epochs=5)
    most = load_accuracy(f"learned:{tmp_path}")
    assert (most.networks, most.condition.label) == (20, "squares, 36 images, 2 epochs")  # type: ignore[attr-defined]
    key = next(one.condition.key for one in read_trainings(tmp_path) if "5 epochs" in one.condition.label)
    named = load_accuracy(f"learned:{tmp_path},condition={key}")
    assert named.networks == 9  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"no training under condition 'zz'.*20 under .* \(squares"):
        load_accuracy(f"learned:{tmp_path},condition=zz")


def test_too_few_networks_are_counted_and_no_table_is_explained(tmp_path: Path) -> None:
    table(tmp_path, ARCHS[:5])
    with pytest.raises(UsageError, match=r"at least 8 networks .* got 5 under \w{8} \(squares, 36 images"):
        load_accuracy(f"learned:{tmp_path}")
    with pytest.raises(UsageError, match="each finished 'hwnas train' writes a line"):
        load_accuracy(f"learned:{tmp_path / 'elsewhere'}")


def test_a_finished_hwnas_train_adds_a_line_beside_its_folder(
    tmp_path: Path, hwnas: Callable[..., Any]
) -> None:
    pytest.importorskip("timm")
    from train_samples import ARCH, squares

    (tmp_path / "arch.yaml").write_text(ARCH.to_yaml())
    data = squares(tmp_path / "data", train=6, test=2)
    command = (
        "train", str(tmp_path / "arch.yaml"), "--data", str(data), "--recipe", "small", "--epochs", "1",
        "--image-size", "16", "--batch", "6", "--workers", "0", "--accelerator", "cpu",
        "--out", str(tmp_path / "trainings" / "one"),
    )  # fmt: skip
    answer = hwnas(*command)
    assert answer.code == 0, answer.err
    (training,) = read_trainings(tmp_path / "trainings")
    result = json.loads((tmp_path / "trainings" / "one" / "result.json").read_text())
    assert training.arch.id == result["id"] and training.top1_percent == result["top1_percent"]
    assert training.condition.resolution == 16


@pytest.mark.parametrize("image_size", [0, 224])
def test_many_networks_at_once_are_estimated_as_one_at_a_time(tmp_path: Path, image_size: int) -> None:
    estimator = load_accuracy(f"learned:{table(tmp_path, image_size=image_size)}")
    assert isinstance(estimator, ArrayPredictor) and estimator.in_arrays
    vectors = Moves(SPACE).random(30, np.random.default_rng(2))
    values, stds = estimator.predict_many(vectors, SPACE)
    alone = [estimator.predict(SPACE.decode(row)) for row in vectors.tolist()]
    assert values == pytest.approx([one.value for one in alone], rel=1e-9)
    assert stds == pytest.approx([one.std for one in alone], rel=1e-9)
    assert estimator.estimate(alone[0].value, alone[0].std) == alone[0]
