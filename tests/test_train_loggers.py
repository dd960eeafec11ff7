"""--log-to: what dashboards receive, and that none of them can stop a training."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("timm")

from train_samples import ARCH, RECIPE, squares

from hwnas import plugins
from hwnas.cli.app import main
from hwnas.errors import MissingPackageError, UsageError
from hwnas.train.callbacks import Progress
from hwnas.train.checkpoint import EpochRecord
from hwnas.train.history import read_history
from hwnas.train.loggers import FOLDER, logged

RECORD = EpochRecord(epoch=1, loss=0.5, top1_percent=91.0, top5_percent=100.0, lr=0.001, seconds=2.0)
PROGRESS = Progress(epoch=2, epochs=3, step=4, steps=10, loss=0.7, images_per_second=50.0, seconds_left=9.0)


class Heard:
    """A callback that keeps what it hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[Any] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: Any) -> None: ...

    def epoch(self, record: Any) -> None:
        self.epochs.append(record)


def tried(name: str, heard: Heard, **settings: Any) -> None:
    """One update and one epoch, reported to a dashboard."""
    with logged(heard, [name], name="uniform-t-1", settings=settings) as callback:
        callback.step(PROGRESS)
        callback.epoch(RECORD)
    assert heard.epochs == [RECORD]


def test_tensorboard_has_every_epoch_of_a_training(tmp_path: Path) -> None:
    reader = (
        pytest.importorskip("tensorboardX.record_writer"),
        pytest.importorskip("tensorboardX.proto.event_pb2"),
    )
    squares(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(ARCH.to_yaml())
    (tmp_path / "quick.yaml").write_text(RECIPE.to_yaml())
    line = "train tiny.yaml --data data --recipe quick.yaml --epochs 2 --out a --accelerator cpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(shlex.split(f"{line} --log-to tensorboard:{tmp_path}/logs")) == 0
    (file,) = (tmp_path / "logs" / "a").glob("events*")
    values: dict[str, list[tuple[int, float]]] = {}
    content, place = file.read_bytes(), 0
    while place < len(content):  # TFRecord: length, its checksum, the event, its checksum
        length = int.from_bytes(content[place : place + 8], "little")
        event = reader[1].Event.FromString(content[place + 12 : place + 12 + length])
        place += 16 + length
        for value in event.summary.value:
            values.setdefault(value.tag, []).append((event.step, value.simple_value))
    history = read_history(tmp_path / "a")
    assert [value for _, value in values["val/top1_percent"]] == pytest.approx(
        [record["top1_percent"] for record in history]
    )
    assert [step for step, _ in values["epoch/loss"]] == [3, 6], "36 images, 12 at a time: 3 updates an epoch"
    assert [value for _, value in values["epoch"]] == [1.0, 2.0]
    assert [step for step, _ in values["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert "recipe/text_summary" in values


def test_mlflow_gets_metrics_by_update_and_the_recipe_as_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    class Fake(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *arguments, **options: calls.append((name, arguments, options))

    monkeypatch.setitem(sys.modules, "mlflow", Fake("mlflow"))
    tried("mlflow:http://localhost:5000", Heard(), epochs=3, lr=0.1)
    assert calls[:4] == [
        ("set_tracking_uri", ("http://localhost:5000",), {}),
        ("set_experiment", ("hwnas",), {}),
        ("start_run", (), {"run_name": "uniform-t-1"}),
        ("log_params", ({"epochs": 3, "lr": 0.1},), {}),
    ]
    assert calls[4] == ("log_metrics", ({"train/loss": 0.7, "train/images_per_second": 50.0},), {"step": 14})
    name, (values,), options = calls[5]
    assert (name, options) == ("log_metrics", {"step": 14})
    assert values["val/top1_percent"] == 91.0
    assert values["epoch/loss"] == 0.5
    assert calls[6:] == [("end_run", ("FINISHED",), {})]


def test_an_interrupted_training_is_a_failed_run_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    names = ("set_tracking_uri", "set_experiment", "start_run", "log_params")
    fake = SimpleNamespace(**dict.fromkeys(names, lambda *_, **__: None), end_run=ended.append)
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), logged(None, ["mlflow:uri"], name="a", settings={}):
        raise KeyboardInterrupt
    assert ended == ["FAILED"]


def test_wandb_gets_a_run_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, Any]] = []
    rows: list[tuple[dict[str, float], int]] = []
    ended: list[int] = []
    run = SimpleNamespace(
        log=lambda values, step: rows.append((values, step)), finish=lambda exit_code: ended.append(exit_code)
    )
    monkeypatch.setitem(
        sys.modules,
        "wandb",
        SimpleNamespace(init=lambda **options: (begun.append(options), run)[1]),  # type: ignore[arg-type]
    )
    tried("wandb:team/photos", Heard(), epochs=3)
    assert begun == [{"project": "photos", "entity": "team", "name": "uniform-t-1", "config": {"epochs": 3}}]
    assert [step for _, step in rows] == [14, 14]
    assert ended == [0]


def test_a_dashboard_that_fails_is_left_out_and_the_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("connection refused")

    run = SimpleNamespace(log=refuse, finish=refuse)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run))  # type: ignore[arg-type]
    heard = Heard()
    tried("wandb:photos", heard)
    assert heard.notes == [
        "--log-to wandb:photos failed: ConnectionError: connection refused. The training continues without it"
    ]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_names_the_extra_that_brings_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "tensorboardX" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    with (
        pytest.raises(MissingPackageError, match=rf"pip install 'hwnas\[{name}\]'"),
        logged(None, [f"{name}:x"], name="a", settings={}),
    ):
        pass


@pytest.mark.parametrize("name", plugins.names(FOLDER))
def test_a_dashboard_without_its_argument_says_what_it_needs(name: str) -> None:
    with (
        pytest.raises(UsageError, match=f"--log-to {name} needs .* e.g. {name}:"),
        logged(None, [name], name="a", settings={}),
    ):
        pass


def test_an_unknown_dashboard_names_the_known_ones() -> None:
    with (
        pytest.raises(UsageError, match="mlflow, tensorboard, wandb"),
        logged(None, ["tensorbord:x"], name="a", settings={}),
    ):
        pass
