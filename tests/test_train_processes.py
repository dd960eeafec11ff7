"""How a batch is computed changes little: in parts, in several processes, in bfloat16, compiled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("pycocotools")

import torch
from dense_samples import ARCH as DENSE_ARCH
from dense_samples import RECIPE as DENSE_RECIPE
from dense_samples import shapes
from supernet_samples import SETTINGS, SPACE
from test_train_loop import Watcher, assert_same_training
from train_samples import ARCH, PLAIN_RECIPE, launched, squares

from hwnas.dense.checkpoint import resume_point as resume_dense
from hwnas.dense.trainer import train as train_dense
from hwnas.errors import UsageError
from hwnas.nn import build
from hwnas.supernet.checkpoint import Checkpoint as SupernetCheckpoint
from hwnas.supernet.checkpoint import load as load_supernet
from hwnas.supernet.trainer import SubnetBatch, SupernetTrainer
from hwnas.supernet.trainer import train as train_supernet
from hwnas.supernet.weights import SharedWeights
from hwnas.train.checkpoint import load, resume_point
from hwnas.train.distributed import Group, joined
from hwnas.train.optim import make_optimizer
from hwnas.train.recipe import OPTIMIZERS
from hwnas.train.training import train

RECIPE = dataclasses.replace(PLAIN_RECIPE, epochs=2, ema_decay=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


def test_two_processes_do_what_one_does_in_two_parts(data: Path, tmp_path: Path) -> None:
    """Halves of a batch in two processes, or one after the other: BatchNorm and gradients see the same."""
    script = """
        import sys
        from pathlib import Path
        from test_train_processes import ARCH, RECIPE
        from hwnas.train.training import train
        train(ARCH, Path(sys.argv[1]), RECIPE, Path(sys.argv[2]), name="tiny")
    """
    launched(script, str(data), str(tmp_path / "two"))
    train(ARCH, data, dataclasses.replace(RECIPE, accumulate=2), tmp_path / "parts")
    train(ARCH, data, RECIPE, tmp_path / "whole")
    two, parts, whole = (resume_point(tmp_path / run) for run in ("two", "parts", "whole"))
    assert two.training is not None and parts.training is not None and whole.training is not None
    assert two.history[0].loss == pytest.approx(parts.history[0].loss, abs=2e-3)
    learnt = [name for name, _ in build(two.arch).named_parameters()]

    def distance(other: dict[str, torch.Tensor]) -> float:
        assert two.training is not None
        mine = two.training.model
        return float(torch.cat([(mine[name] - other[name]).flatten() for name in learnt]).norm())

    assert distance(parts.training.model) < 0.2 * distance(whole.training.model)
    train(ARCH, data, RECIPE, tmp_path / "two", resume=True)  # finished: one process agrees with two


class InTwoParts(SupernetTrainer):
    """What two processes do, one after the other: the mean of the gradients of both halves of a batch."""

    def backward(self, batch: SubnetBatch) -> torch.Tensor:
        half = len(batch.labels) // 2
        losses = [
            super(InTwoParts, self).backward(
                SubnetBatch(batch.images[part], batch.labels[part], batch.subnets)
            )
            for part in (slice(half), slice(half, None))
        ]
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad /= 2
        return (losses[0] + losses[1]) / 2


def test_two_processes_train_a_supernet_as_one_does_in_two_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
        import sys
        from pathlib import Path
        from supernet_samples import SETTINGS, SPACE
        from hwnas.supernet import train
        train(SPACE, Path(sys.argv[1]), SETTINGS, Path(sys.argv[2]))
    """
    launched(script, str(data), str(tmp_path / "two"))
    train_supernet(SPACE, data, SETTINGS, tmp_path / "whole")
    monkeypatch.setattr("hwnas.supernet.trainer.SupernetTrainer", InTwoParts)
    train_supernet(SPACE, data, SETTINGS, tmp_path / "parts")
    two, parts, whole = (load_supernet(tmp_path / run) for run in ("two", "parts", "whole"))
    for one, other in zip(two.history, parts.history, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=2e-3)
    start = SharedWeights.fresh(SPACE, seed=SETTINGS.seed).tensors

    def distance(one: SupernetCheckpoint, other: dict[str, torch.Tensor]) -> float:
        return float(sum((one.state_dict[name] - other[name]).square().sum() for name in start) ** 0.5)

    trained = distance(parts, {name: tensor.detach() for name, tensor in start.items()})
    assert distance(two, parts.state_dict) < 0.02 * trained
    assert distance(two, parts.state_dict) < 0.2 * distance(two, whole.state_dict)
    assert sorted(file.name for file in (tmp_path / "two").iterdir()) == sorted(
        file.name for file in (tmp_path / "whole").iterdir()
    )


def test_two_processes_train_a_detector(tmp_path: Path) -> None:
    photos = shapes(tmp_path / "photos", train=16, val=2)
    script = """
        import dataclasses, sys
        from pathlib import Path
        from dense_samples import ARCH, RECIPE
        from hwnas.dense import train
        recipe = dataclasses.replace(RECIPE, ema_decay=0.9)
        train(ARCH, "detect", Path(sys.argv[1]), recipe, Path(sys.argv[2]))
    """
    launched(script, str(photos), str(tmp_path / "two"))
    recipe = dataclasses.replace(DENSE_RECIPE, ema_decay=0.9)
    alone = train_dense(DENSE_ARCH, "detect", photos, recipe, tmp_path / "one")
    two = resume_dense(tmp_path / "two")
    assert [record.lr for record in two.history] == [record.lr for record in alone.history]
    for one, other in zip(two.history, alone.history, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.1), "BatchNorm sees half a batch"
    # one process goes on where two ended: nothing is left to do, and nothing differs
    again = train_dense(DENSE_ARCH, "detect", photos, recipe, tmp_path / "two", resume=True)
    assert again.history == two.history


def test_gradients_are_averaged_over_processes_and_stay_absent_where_no_process_has_one(
    tmp_path: Path,
) -> None:
    script = """
        import torch
        from hwnas.train.distributed import joined
        network = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False) for _ in range(3)])
        with joined("cpu", 4) as group:
            network[0].weight.grad = torch.full((1, 1), float(group.rank + 1))
            if group.is_first:
                network[1].weight.grad = torch.full((1, 1), 4.0)
            group.average_gradients(network)
        assert [None if p.grad is None else p.grad.item() for p in network.parameters()] == [1.5, 2.0, None]
    """
    launched(script)


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(UsageError, match="got 12 for 5 processes"), joined("cpu", 12):
        pass
    monkeypatch.delenv("WORLD_SIZE")
    with joined("cpu", 12) as group:
        assert group == Group(0, 1)


@pytest.mark.parametrize("change", [{"accumulate": 3}, {"precision": "bf16"}], ids=str)
def test_it_learns_in_parts_and_in_bfloat16(data: Path, tmp_path: Path, change: dict[str, object]) -> None:
    recipe = dataclasses.replace(PLAIN_RECIPE, **change)  # type: ignore[arg-type]
    result = train(ARCH, data, recipe, tmp_path / "run")
    assert result.history[-1].loss < 0.9 * result.history[0].loss
    assert all(t.dtype != torch.bfloat16 for t in load(tmp_path / "run").state_dict.values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_resumes_to_the_same_bits(data: Path, tmp_path: Path, optimizer: str) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    train(ARCH, data, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, recipe, tmp_path / "cut", callback=Watcher(interrupt_in_epoch=2))
    train(ARCH, data, recipe, tmp_path / "cut", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")
    assert type(make_optimizer(build(ARCH), recipe)).__name__.lower().startswith(optimizer)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(data: Path, tmp_path: Path) -> None:
    train(ARCH, data, RECIPE, tmp_path / "plain")
    train(ARCH, data, dataclasses.replace(RECIPE, compile=True), tmp_path / "compiled")
    plain, compiled = load(tmp_path / "plain"), load(tmp_path / "compiled")
    assert sorted(plain.state_dict) == sorted(compiled.state_dict)
    assert compiled.history[0].loss == pytest.approx(plain.history[0].loss, rel=1e-2)
