"""Training shared weights: which networks an update trains, resuming, evaluating, starting from slices."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("timm")
pytest.importorskip("safetensors")

import numpy as np
import torch
import torch.nn.functional as F
from supernet_samples import SETTINGS, SPACE, WITH_BOTTLENECKS, halves
from train_samples import PLAIN_RECIPE, squares

from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError
from hwnas.nn import build
from hwnas.predictors.accuracy import load_accuracy
from hwnas.space import ArchSpec, Stage, count_macs, lower, preset
from hwnas.supernet import Calibration, Settings, SubnetEvaluator, find_start, train
from hwnas.supernet.checkpoint import load, resume_point
from hwnas.supernet.images import split_images, training_images
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.trainer import SubnetBatch, SupernetTrainer
from hwnas.supernet.weights import SharedWeights, SubnetCache
from hwnas.train.callbacks import FinishedEpoch, NullCallback
from hwnas.train.init_weights import initialise
from hwnas.train.trainer import Context
from hwnas.train.training import train as train_alone


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares"), train=40, test=4)


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of nine classes."""
    return halves(tmp_path_factory.mktemp("halves"))


@pytest.fixture(scope="module")
def trained(nine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet that has learnt nine classes."""
    out = tmp_path_factory.mktemp("supernet") / "trained"
    settings = dataclasses.replace(SETTINGS, batch_size=18, held_back=90, calibration_images=36, lr=6e-3)
    train(WITH_BOTTLENECKS, nine, settings, out)
    return out


class StopAfter(NullCallback):
    """Interrupts the training once an epoch is kept."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, record: FinishedEpoch) -> None:
        if record.epoch == self.last:
            raise KeyboardInterrupt


def macs(arch: ArchSpec) -> int:
    return count_macs(lower(arch))


# --- the sandwich ----------------------------------------------------------------------------


def test_an_update_trains_the_largest_the_smallest_and_random_networks_and_types_take_turns() -> None:
    sandwich = Sandwich(SPACE, 2)
    assert sandwich.types == ("reuse", "single-head", "cascaded-group", "element-wise")
    rng = random.Random(0)
    first = Counter()  # type: ignore[var-annotated]
    for update in range(8):
        largest, smallest, of_type, of_any = sandwich.networks(update, rng)
        type_ = sandwich.types[update % 4]
        for arch in (largest, smallest):
            assert {block.type for stage in arch.stages for block in stage.blocks if block} == {type_}
        assert {block.type for stage in of_type.stages for block in stage.blocks if block} <= {type_}
        assert all(SPACE.contains(arch) for arch in (largest, smallest, of_type, of_any))
        assert macs(of_type) <= macs(largest)
        first[largest.id] += 1
    assert sorted(first.values()) == [2, 2, 2, 2]


def test_the_largest_and_the_smallest_are_so_among_many() -> None:
    sandwich, rng = Sandwich(SPACE), random.Random(1)
    for type_, largest, smallest in zip(sandwich.types, sandwich.largest, sandwich.smallest, strict=True):
        with_attention = [
            macs(arch)
            for arch in (sandwich.of_type(type_).sample(rng) for _ in range(200))
            if all(block is not None for stage in arch.stages for block in stage.blocks)
        ]
        assert macs(largest) >= max(with_attention) and macs(smallest) <= min(with_attention)


def test_no_network_beyond_the_limit_is_trained() -> None:
    free = Sandwich(SPACE)
    limit = sum(map(macs, free.largest)) / len(free.largest) / 2
    sandwich, rng = Sandwich(SPACE, 2, limit), random.Random(0)
    for update in range(12):
        assert all(macs(arch) <= limit for arch in sandwich.networks(update, rng))
    assert all(macs(arch) > limit / 4 for arch in sandwich.largest), "lowered no further than it must be"
    with pytest.raises(UsageError, match="max_macs must leave every attention type a network"):
        Sandwich(SPACE, 2, 1000)


def test_within_a_limit_what_is_trained_first_cannot_grow_and_brings_every_number_to_its_largest() -> None:
    limit = 0.7 * min(map(macs, Sandwich(SPACE).largest))
    sandwich, rng = Sandwich(SPACE, 0, limit), random.Random(0)
    assert {arch.id for arch in sandwich.recurring} == {arch.id for arch in sandwich.smallest}
    dearest: dict[str, int] = {}
    for update in range(200):
        first = sandwich.networks(update, rng)[0]
        space = sandwich.of_type(sandwich.types[update % 4])
        vector = space.encode(first)
        for place, decision in enumerate(space.decisions):
            if decision.ordinal and vector[place] + 1 < len(decision.choices):
                larger = list(vector)
                larger[place] += 1
                assert not macs(first) < macs(space.decode(space.repair(larger))) <= limit
            elif decision.ordinal:
                dearest[decision.name] = dearest.get(decision.name, 0) + 1
    ordinal = [decision.name for decision in SPACE.decisions if decision.ordinal]
    assert all(dearest.get(name, 0) >= 20 for name in ordinal), "a tenth of the updates"


# --- training --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_bits_of_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"limit": 36, "clock": lambda: 0.0}
    whole = train(SPACE, data, SETTINGS, tmp_path / "whole", **options)
    for last in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train(SPACE, data, SETTINGS, tmp_path / "cut", resume=True, callback=StopAfter(last), **options)
    resumed = train(SPACE, data, SETTINGS, tmp_path / "cut", resume=True, **options)
    assert resumed.history == whole.history and len(whole.history) == 3
    one, other = load(tmp_path / "whole").state_dict, load(tmp_path / "cut").state_dict
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    with pytest.raises(UsageError, match="already holds a training: add --resume"):
        train(SPACE, data, SETTINGS, tmp_path / "cut", **options)
    with pytest.raises(UsageError, match=r"another supernet; .*\n  lr: 0.003 there, 0.01 requested"):
        train(SPACE, data, dataclasses.replace(SETTINGS, lr=0.01), tmp_path / "cut", resume=True, **options)


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(data: Path, tmp_path: Path) -> None:
    train(SPACE, data, dataclasses.replace(SETTINGS, epochs=2), tmp_path, limit=36)
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    saved = resume_point(tmp_path)
    assert len(saved.history) == 1 and "damaged or cut off" in saved.skipped[0]
    assert len(load(tmp_path).history) == 2, "networks are evaluated with the weights alone"
    resumed = train(SPACE, data, dataclasses.replace(SETTINGS, epochs=2), tmp_path, limit=36, resume=True)
    assert len(resumed.history) == 2 and not resume_point(tmp_path).skipped


def test_one_update_moves_the_weights_that_its_networks_use_and_no_others(data: Path) -> None:
    pixels, held = split_images(open_images(data), side=16, limit=None, held_back=9, calibration=12, seed=0)
    weights = SharedWeights.fresh(SPACE, seed=0)
    trainer = SupernetTrainer(weights, Sandwich(SPACE), SETTINGS, 5, held, Context())
    before = {name: tensor.detach().clone() for name, tensor in weights.tensors.items()}
    images, labels = next(pixels.training_batches(12, seed=0, epoch=1))
    largest, smallest = Sandwich(SPACE).largest[0], Sandwich(SPACE).smallest[0]  # of reuse attention
    trainer.schedule.step_update(5)
    trainer.update(SubnetBatch(images, labels, (largest, smallest)))
    moved = {name for name, tensor in weights.tensors.items() if not torch.equal(tensor, before[name])}
    assert any("[reuse]" in name for name in moved) and "head.linear.weight" in moved
    assert not any(
        f"[{other}]" in name for name in moved for other in ("single-head", "none", "element-wise")
    )


def test_compiling_is_for_the_networks_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def compile_(network: Any) -> Any:
        compiled.append(network.arch.id)
        return lambda images: network(images)

    monkeypatch.setattr(torch, "compile", compile_)
    sandwich, weights = Sandwich(SPACE, 2), SharedWeights.fresh(SPACE, seed=0)
    recurring = sandwich.recurring
    assert recurring == (*sandwich.largest, *sandwich.smallest)
    networks, plain = SubnetCache(weights, recurring=recurring, compile=True), SubnetCache(weights)
    rng, images = random.Random(0), torch.randn(4, 3, 16, 16)
    for update in range(8):
        with torch.no_grad():
            for tensor in weights.tensors.values():
                tensor.mul_(0.9)  # what is compiled must see the weights as they are now
        for arch in sandwich.networks(update, rng):
            assert torch.equal(networks.network(arch)[1](images), plain.network(arch)[1](images))
    assert sorted(compiled) == sorted(arch.id for arch in recurring), "each once"


def test_bfloat16_trains_too(data: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1, precision="bf16")
    done = train(SPACE, data, settings, tmp_path, limit=48)
    assert 0 < done.history[0].loss < 5
    assert all(tensor.dtype == torch.float32 for tensor in load(tmp_path).state_dict.values())


def test_every_mistake_in_the_settings_is_said() -> None:
    with pytest.raises(UsageError) as error:
        Settings(epochs=0, teacher_share=2, precision="fp64", lr=float("nan"))
    assert [line.split(":")[1].strip() for line in str(error.value).splitlines()] == [
        "epochs", "lr", "warmup_epochs", "precision", "teacher_share",
    ]  # fmt: skip


def test_held_back_images_are_not_trained_on(data: Path) -> None:
    pixels, evaluated_on = split_images(
        open_images(data), side=16, limit=90, held_back=30, calibration=24, seed=3
    )
    assert (len(pixels), len(evaluated_on.held_back), len(evaluated_on.calibration)) == (60, 30, 24)
    assert torch.bincount(evaluated_on.held_back.labels).tolist() == [10, 10, 10]

    def contents(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    assert not contents(pixels.images) & contents(evaluated_on.held_back.images)
    assert contents(evaluated_on.calibration.images) <= contents(pixels.images)
    with pytest.raises(UsageError, match="at most half .* can be held back, got 80 of 90"):
        split_images(open_images(data), side=16, limit=90, held_back=80, calibration=24, seed=3)


def test_networks_are_tuned_on_what_the_supernet_was_trained_on(data: Path) -> None:
    split = {"side": 16, "limit": 90, "held_back": 30, "seed": 3}
    pixels, _ = split_images(open_images(data), calibration=24, **split)
    every = training_images(open_images(data), most=60, **split)
    assert torch.equal(every.images, pixels.images) and torch.equal(every.labels, pixels.labels)
    some = training_images(open_images(data), most=24, **split)
    assert torch.bincount(some.labels).tolist() == [8, 8, 8]
    known = {image.numpy().tobytes() for image in pixels.images}
    assert {image.numpy().tobytes() for image in some.images} <= known


# --- evaluation ---------------------------------------------------------------------------------


def test_a_trained_supernet_has_learnt_and_ranks_a_nearly_empty_network_below(trained: Path) -> None:
    sandwich, evaluator = Sandwich(WITH_BOTTLENECKS), SubnetEvaluator.load(trained)
    first, last = (Stage(width=width, blocks=(None,), layout="dw-attention-ffn") for width in (8, 2))
    nearly_empty = dataclasses.replace(sandwich.smallest[0], stages=(first, last))
    *largest, least = evaluator.evaluate([*sandwich.largest, nearly_empty])
    mean = sum(one.top1_percent for one in largest) / len(largest)
    assert mean > 80, "of nine classes"
    assert least.top1_percent < mean - 15, "two channels tell few of nine classes"
    assert least.images == 90 and least.right == round(0.9 * least.top1_percent)


def test_the_estimate_is_the_loss_on_held_back_images_as_sure_as_networks_differ_on_them(
    trained: Path,
) -> None:
    evaluator, sandwich = SubnetEvaluator.load(trained), Sandwich(WITH_BOTTLENECKS)

    def losses(arch: ArchSpec) -> torch.Tensor:
        network = evaluator.network(arch)
        each = [F.cross_entropy(network(x), y, reduction="none") for x, y in evaluator._held_back]
        return torch.cat(each).detach()

    arch = sandwich.largest[1]
    estimator = load_accuracy(f"supernet:{trained}")
    estimate = estimator.predict(arch)
    assert estimate.value == pytest.approx(-losses(arch).mean().item(), rel=1e-5) and estimate.unit == "nats"
    difference = losses(sandwich.largest[0]) - losses(sandwich.smallest[0])
    assert estimate.std == pytest.approx(np.std(difference.numpy()) / (2 * 90) ** 0.5, rel=1e-4)
    assert estimator.predict(sandwich.smallest[2]).std == estimate.std, "no network is preferred for it"


@pytest.mark.slow
def test_a_few_updates_of_its_own_lower_what_a_network_loses_and_leave_the_shared_weights_alone(
    trained: Path, nine: Path, data: Path
) -> None:
    shared, tuned = SubnetEvaluator.load(trained), SubnetEvaluator.load(trained, data=nine, updates=10)
    before = {name: tensor.detach().clone() for name, tensor in tuned.weights.tensors.items()}
    archs = Sandwich(WITH_BOTTLENECKS).largest
    of_tuned = tuned.evaluate(archs)
    for least, most in zip(of_tuned, shared.evaluate(archs), strict=True):
        assert least.loss < most.loss
    assert all(torch.equal(before[name], tensor) for name, tensor in tuned.weights.tensors.items())
    (again,) = SubnetEvaluator.load(trained, data=nine, updates=10).evaluate(archs[:1])
    once = of_tuned[0]
    assert (again.loss, again.right, again.loss_std) == (once.loss, once.right, once.loss_std)
    with pytest.raises(UsageError, match="the images must be those that the supernet was trained on"):
        SubnetEvaluator.load(trained, data=data)
    with pytest.raises(UsageError, match="at least 1 update, got 0"):
        SubnetEvaluator.load(trained, data=nine, updates=0)


def test_a_tuned_network_is_judged_by_held_back_images_and_last_batches(trained: Path, nine: Path) -> None:
    arch = Sandwich(WITH_BOTTLENECKS).largest[0]
    evaluator = SubnetEvaluator.load(trained, data=nine, updates=9)
    assert evaluator._tuning is not None and evaluator.updates == 9
    network = evaluator.network(arch)
    last = evaluator._tuning(network, 16)
    assert len(last) == 3 * 64 and not network.training, "the last three batches, of nine"
    held = [F.cross_entropy(network(x), y, reduction="none").detach() for x, y in evaluator._held_back]
    (evaluated,) = evaluator.evaluate([arch])
    assert evaluated.images == 90
    assert evaluated.loss == pytest.approx(torch.cat([last, *held]).mean().item(), rel=1e-5)


def test_an_estimate_after_updates_has_a_calibration_of_its_own(trained: Path, nine: Path) -> None:
    arch = Sandwich(WITH_BOTTLENECKS).largest[0]
    (evaluated,) = SubnetEvaluator.load(trained, data=nine, updates=3).evaluate([arch])
    line = Calibration(intercept=70.0, slope=5.0, std_percent=1.0, trainings=4)
    written = line.write(trained, 3)
    try:
        tuned, shared, more = (
            load_accuracy(f"supernet:{trained}{options}").predict(arch)
            for options in (f",data={nine},updates=3", "", f",data={nine},updates=2")
        )
    finally:
        written.unlink()
    assert tuned.value == pytest.approx(70 - 5 * evaluated.loss) and tuned.unit == "%"
    assert (shared.unit, more.unit) == ("nats", "nats"), "nothing is known of these"
    with pytest.raises(UsageError, match="updates need the images .* supernet:shared,data=DATA,updates=3"):
        load_accuracy("supernet:shared,updates=3")


def test_accuracy_with_shared_weights_has_its_binomial_deviation(trained: Path) -> None:
    arch = Sandwich(WITH_BOTTLENECKS).largest[1]
    evaluator = SubnetEvaluator.load(trained)
    network, (evaluated,) = evaluator.network(arch), evaluator.evaluate([arch])
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in evaluator._held_back)
    assert evaluated.top1_percent == pytest.approx(100 * right / 90)
    share = (right + 1) / 92
    assert evaluated.binomial_std_percent == pytest.approx(100 * (share * (1 - share) / 90) ** 0.5)


def test_a_network_searched_for_large_images_is_judged_at_the_supernets_size(trained: Path) -> None:
    arch = Sandwich(WITH_BOTTLENECKS).largest[0]
    searched = arch.adapted(resolution=224, stem_stride=16, classes=1000)
    evaluator = SubnetEvaluator.load(trained)
    assert evaluator.evaluate([searched])[0].right == evaluator.evaluate([arch])[0].right
    with pytest.raises(UsageError, match="not in the space of the supernet"):
        evaluator.evaluate([preset("uniform-t")])


def test_a_calibrated_supernet_estimates_what_training_alone_gives(trained: Path) -> None:
    losses, alone = [1.6, 1.5, 1.4, 1.3, 1.2], [61.0, 64.0, 71.0, 74.0, 81.0]
    line = Calibration.fitted(losses, alone, loss_stds=[0.0] * 5)
    assert (line.slope, line.intercept) == (pytest.approx(50), pytest.approx(140.2))
    by_hand = []
    for left_out in range(5):
        x = [value for place, value in enumerate(losses) if place != left_out]
        y = [value for place, value in enumerate(alone) if place != left_out]
        design = torch.tensor([[1.0, value] for value in x], dtype=torch.float64)
        a, b = torch.linalg.lstsq(design, torch.tensor(y, dtype=torch.float64)[:, None]).solution.flatten()
        by_hand.append(alone[left_out] - float(a + b * losses[left_out]))
    assert line.std_percent == pytest.approx((sum(error**2 for error in by_hand) / 5) ** 0.5)
    unsure = Calibration.fitted(losses, alone, loss_stds=[0.01] * 5)
    assert unsure.std_percent**2 == pytest.approx(line.std_percent**2 - 0.5**2), "images explain a part"
    assert Calibration.fitted(losses, alone[::-1], loss_stds=[0.0] * 5).slope == 0
    with pytest.raises(UsageError, match="at least 4 trained networks, got 3"):
        Calibration.fitted(losses[:3], alone[:3], loss_stds=[0.0] * 3)
    plain = load_accuracy(f"supernet:{trained}").predict(Sandwich(WITH_BOTTLENECKS).largest[0])
    gentle = dataclasses.replace(line, slope=5.0, intercept=70.0)
    written = gentle.write(trained, 0)
    try:
        calibrated = load_accuracy(f"supernet:{trained}").predict(Sandwich(WITH_BOTTLENECKS).largest[0])
        assert calibrated.value == pytest.approx(70 + 5 * plain.value) and calibrated.unit == "%"
        assert calibrated.std == pytest.approx((line.std_percent**2 + (5 * plain.std) ** 2) ** 0.5)
        written.write_text("{}")
        with pytest.raises(FileFormatError, match="not a supernet's calibration"):
            load_accuracy(f"supernet:{trained}")
        written.write_text('{"format": 1}')
        with pytest.raises(FileFormatError, match="another version of hwnas: remove it, or calibrate again"):
            load_accuracy(f"supernet:{trained}")
    finally:
        written.unlink()


# --- starting from slices --------------------------------------------------------------------


def test_a_training_from_a_supernet_starts_exactly_at_the_subnets_output(
    trained: Path, nine: Path, tmp_path: Path
) -> None:
    arch = Sandwich(WITH_BOTTLENECKS).largest[2]
    start = functools.partial(find_start, trained)
    network = build(arch).to(memory_format=torch.channels_last)
    initialise(network, start, arch, NullCallback())
    images = torch.randn(5, 3, 16, 16)
    expected = SubnetEvaluator.load(trained).network(arch)(images)
    assert torch.equal(network.eval()(images), expected)
    still = dataclasses.replace(
        PLAIN_RECIPE, epochs=1, ema_decay=0.0, lr=1e-12, min_lr=0.0, warmup_epochs=0.0, weight_decay=0.0
    )
    result = train_alone(arch, nine, still, tmp_path / "on", init=start)
    assert result.arch == arch and result.history[0].top1_percent > 50, "of nine classes"
    with pytest.raises(UsageError, match="not in the space of the supernet"):
        train_alone(preset("uniform-t"), nine, still, tmp_path / "no", init=start)


# --- files of format 1, by the code before supernets shared the trainer of classifiers ---------

OLD = Path(__file__).parent / "supernet_format_1"


def test_a_folder_of_format_1_is_evaluated_as_the_code_that_wrote_it_did(tmp_path: Path) -> None:
    expected = json.loads((OLD / "expected.json").read_text())
    evaluator = SubnetEvaluator.load(OLD / "run")
    sandwich = Sandwich(load(OLD / "run").space)
    found = evaluator.evaluate([*sandwich.largest, *sandwich.smallest])
    assert [one.loss for one in found] == pytest.approx(expected["losses_after_2_epochs"], rel=1e-4)


def test_a_folder_of_format_1_resumes_to_the_epoch_that_its_own_code_trained(tmp_path: Path) -> None:
    expected = json.loads((OLD / "expected.json").read_text())["history"]
    out = tmp_path / "run"
    shutil.copytree(OLD / "run", out)
    saved = load(out)
    done = train(saved.space, OLD / "squares.tar.gz", saved.recipe, out, resume=True, clock=lambda: 0.0)
    assert len(done.history) == 3
    for record, old in zip(done.history, expected, strict=True):
        assert record.loss == pytest.approx(old["loss"], rel=1e-4)
        assert record.lr == pytest.approx(old["lr"]) and record.largest_percent == old["largest_percent"]


# --- files -----------------------------------------------------------------------------------


def test_damaged_and_foreign_files_are_refused_in_one_line(trained: Path, tmp_path: Path) -> None:
    content = (trained / "weights.safetensors").read_bytes()
    assert len(content) < (trained / "last.safetensors").stat().st_size / 2
    file = tmp_path / "weights.safetensors"
    for damaged, said in (
        (content[: len(content) // 2], "damaged or cut off"),
        (content[:4], "cut off"),
        (b"\x80\x02" + content, "pickle"),
        ((trained / "images.safetensors").read_bytes(), "must be a file of the kind 'hwnas supernet', got"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=said) as error:
            load(file)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no such checkpoint"):
        load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="supernet:FOLDER"):
        load_accuracy("supernet")
