"""How a batch is computed changes little: in parts, in several processes, in bfloat16, compiled."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("timm")

import torch
from test_train_loop import Watcher, assert_same_training
from train_samples import ARCH, PLAIN_RECIPE, squares

from hwnas.errors import UsageError
from hwnas.nn import build
from hwnas.train.checkpoint import load, resume_point
from hwnas.train.distributed import Group, joined
from hwnas.train.optim import make_optimizer
from hwnas.train.recipe import OPTIMIZERS
from hwnas.train.training import train

RECIPE = dataclasses.replace(PLAIN_RECIPE, epochs=2, ema_decay=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


def launched(script: str, *arguments: str) -> None:
    """Two processes with the environment that torchrun gives them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in running] == [0, 0]


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
