"""How a batch is computed changes little: in parts, in several processes, in bfloat16, compiled."""

from __future__ import annotations

import dataclasses
import json
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
SUPERNET = dataclasses.replace(SETTINGS, epochs=2)
DENSE = dataclasses.replace(DENSE_RECIPE, ema_decay=0.9)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


SCRIPT = """
    import dataclasses, json, sys
    from pathlib import Path
    import torch
    from dense_samples import ARCH as DENSE_ARCH
    from supernet_samples import SPACE
    from test_train_processes import ARCH, DENSE, RECIPE, SUPERNET
    from hwnas import dense, supernet
    from hwnas.train.distributed import joined
    from hwnas.train.training import train

    data, photos, out = map(Path, sys.argv[1:])
    with joined("cpu", 4) as group:
        train(ARCH, data, RECIPE, out / "classifier", name="tiny")
        supernet.train(SPACE, data, SUPERNET, out / "supernet")
        result = dense.train(DENSE_ARCH, "detect", photos, DENSE, out / "dense")
        network = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False) for _ in range(3)])
        network[0].weight.grad = torch.full((1, 1), float(group.rank + 1))
        if group.is_first:
            network[1].weight.grad = torch.full((1, 1), 4.0)
        group.average_gradients(network)
        said = {
            "dense": [(record.loss, dict(record.scores)) for record in result.history],
            "gradients": [None if p.grad is None else p.grad.item() for p in network.parameters()],
        }
        (out / f"{group.rank}.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes(tmp_path_factory.mktemp("shapes") / "photos", train=16, val=2)


@pytest.fixture(scope="module")
def two(data: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes trained: a classifier, a supernet and a detector, a folder each."""
    out = tmp_path_factory.mktemp("two")
    launched(SCRIPT, str(data), str(photos), str(out))
    return out


@pytest.mark.slow
def test_two_processes_train_a_classifier_as_one_does_in_two_parts(
    data: Path, two: Path, tmp_path: Path
) -> None:
    """Halves of a batch in two processes, or one after the other: BatchNorm and gradients see the same."""
    train(ARCH, data, dataclasses.replace(RECIPE, accumulate=2), tmp_path / "parts")
    train(ARCH, data, RECIPE, tmp_path / "whole")
    both, parts, whole = map(resume_point, (two / "classifier", tmp_path / "parts", tmp_path / "whole"))
    assert both.training is not None and parts.training is not None and whole.training is not None
    assert both.history[0].loss == pytest.approx(parts.history[0].loss, abs=2e-3)
    learnt = [name for name, _ in build(both.arch).named_parameters()]
    mine = both.training.model
    to_parts = distance({name: mine[name] for name in learnt}, parts.training.model)
    assert to_parts < 0.2 * distance({name: mine[name] for name in learnt}, whole.training.model)
    train(ARCH, data, RECIPE, two / "classifier", resume=True)  # finished: one process agrees with two


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


@pytest.mark.slow
def test_two_processes_train_a_supernet_as_one_does_in_two_parts(
    data: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each update trains the same subnets in both, or weights and losses would differ."""
    train_supernet(SPACE, data, SUPERNET, tmp_path / "whole")
    monkeypatch.setattr("hwnas.supernet.trainer.SupernetTrainer", InTwoParts)
    train_supernet(SPACE, data, SUPERNET, tmp_path / "parts")
    both, parts, whole = map(load_supernet, (two / "supernet", tmp_path / "parts", tmp_path / "whole"))
    for one, other in zip(both.history, parts.history, strict=True):
        assert one.loss == pytest.approx(other.loss, abs=2e-3)
    fresh = SharedWeights.fresh(SPACE, seed=SUPERNET.seed).state_dict()
    to_parts = distance(both.state_dict, parts.state_dict)
    assert to_parts < 0.02 * distance(both.state_dict, fresh)
    assert to_parts < 0.2 * distance(both.state_dict, whole.state_dict)
    files = [
        sorted(file.name for file in folder.iterdir()) for folder in (two / "supernet", tmp_path / "whole")
    ]
    assert files[0] == files[1], "the first process alone writes, and all there is to write"
    train_supernet(SPACE, data, SUPERNET, two / "supernet", resume=True)  # one process agrees with two


@pytest.mark.slow
def test_two_processes_train_a_detector(photos: Path, two: Path, tmp_path: Path) -> None:
    alone = train_dense(DENSE_ARCH, "detect", photos, DENSE, tmp_path / "one")
    both = resume_dense(two / "dense")
    assert [record.lr for record in both.history] == [record.lr for record in alone.history]
    for one, other in zip(both.history, alone.history, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.1), "BatchNorm sees half a batch"
    first, second = (json.loads((two / f"{rank}.json").read_text())["dense"] for rank in range(2))
    assert first == second, "both have the same weights, and so the same scores"
    assert (
        train_dense(DENSE_ARCH, "detect", photos, DENSE, two / "dense", resume=True).history == both.history
    )


@pytest.mark.slow
def test_gradients_are_averaged_and_stay_absent_where_no_process_has_one(two: Path) -> None:
    for rank in range(2):
        assert json.loads((two / f"{rank}.json").read_text())["gradients"] == [1.5, 2.0, None]


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Euclidean, over the tensors of `one`."""
    return float(torch.cat([(tensor - other[name]).flatten() for name, tensor in one.items()]).norm())


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


@pytest.mark.parametrize(
    "optimizer",
    ["adamw", *(pytest.param(one, marks=pytest.mark.slow) for one in OPTIMIZERS if one != "adamw")],
)
def test_every_optimiser_resumes_to_the_same_bits(data: Path, tmp_path: Path, optimizer: str) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    train(ARCH, data, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(ARCH, data, recipe, tmp_path / "cut", callback=Watcher(interrupt_in_epoch=2))
    train(ARCH, data, recipe, tmp_path / "cut", resume=True)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")
    assert type(make_optimizer(build(ARCH), recipe)).__name__.lower().startswith(optimizer)


@pytest.mark.long
def test_a_compiled_network_learns_the_same(data: Path, tmp_path: Path) -> None:
    train(ARCH, data, RECIPE, tmp_path / "plain")
    train(ARCH, data, dataclasses.replace(RECIPE, compile=True), tmp_path / "compiled")
    plain, compiled = load(tmp_path / "plain"), load(tmp_path / "compiled")
    assert sorted(plain.state_dict) == sorted(compiled.state_dict)
    assert compiled.history[0].loss == pytest.approx(plain.history[0].loss, rel=1e-2)
