"""`hwnas train` and `hwnas evaluate` as a user meets them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("timm")

from train_samples import ARCH, PLAIN_RECIPE, RECIPE, squares

from hwnas.cli.app import main
from hwnas.train.checkpoint import load, resume_point


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data/, tiny.yaml and quick.yaml."""
    squares(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(ARCH.to_yaml())
    (tmp_path / "quick.yaml").write_text(RECIPE.to_yaml())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> int:
    return main(shlex.split(line))


def test_train_then_evaluate(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train tiny.yaml --data data --recipe quick.yaml --epochs 2 --accelerator cpu --json") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["schema"] == 1
    assert document["out"] == "trainings/tiny-1"
    assert [record["epoch"] for record in document["history"]] == [1, 2]
    assert "next: hwnas evaluate trainings/tiny-1 --data data" in printed.err
    assert "hwnas export trainings/tiny-1 --evaluate data" in printed.err

    assert run("evaluate trainings/tiny-1 --data data --accelerator cpu --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1_percent"] == document["best_top1_percent"]
    assert (found["images"], found["split"], found["epoch"]) == (24, "test", document["best_epoch"])

    assert run("train tiny.yaml --data data --recipe quick.yaml --epochs 1 --accelerator cpu") == 0
    assert Path("trainings/tiny-2/result.json").exists(), "each training has a folder of its own"
    assert "top-1" in capsys.readouterr().out


def test_flags_win_over_the_recipe(inputs: Path) -> None:
    flags = "--epochs 1 --batch 6 --lr 0.01 --image-size 32 --stem-stride 8 --limit 12 --seed 5"
    assert run(f"train tiny.yaml --data data --recipe quick.yaml --out out --accelerator cpu {flags}") == 0
    trained = load("out")
    assert (trained.recipe.epochs, trained.recipe.batch_size, trained.recipe.seed) == (1, 6, 5)
    assert trained.recipe.peak_lr == pytest.approx(0.01)
    assert trained.recipe.warmup_epochs == 0.25, "at most a quarter of the epochs"
    assert (trained.arch.resolution, trained.arch.stem.stride, trained.arch.classes) == (32, 8, 3)
    assert trained.data["train_images"] == 12
    assert trained.classes_names == ("blue", "green", "red")


def test_any_field_of_the_recipe_can_be_set(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "train tiny.yaml --data data --recipe quick.yaml --epochs 1 --accelerator cpu"
    assert run(f"{line} --out teacher") == 0
    settings = "--set teacher=teacher --set accumulate=2 --set weight_decay=0.032 --set precision=bf16"
    assert run(f"{line} --out out {settings}") == 0
    recipe = load("out").recipe
    assert (recipe.teacher, recipe.accumulate, recipe.precision) == ("teacher", 2, "bf16")
    assert recipe.weight_decay == 0.032
    capsys.readouterr()
    assert run(f"{line} --out other --set weight_decoy=1") == 2
    assert "--set: weight_decoy: no such field. Did you mean 'weight_decay'?" in capsys.readouterr().err
    assert run(f"{line} --out other --set compile") == 2
    assert "--set must be FIELD=VALUE, got 'compile'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
    ],
)
def test_an_interrupted_training_goes_on_with_the_command_it_printed(
    inputs: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    (inputs / "long.yaml").write_text(PLAIN_RECIPE.to_yaml().replace("epochs: 6", "epochs: 20"))
    command = "train tiny.yaml --data data --recipe long.yaml --limit 12 --out 'my run' --accelerator cpu"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    line = [sys.executable, "-m", "hwnas", *shlex.split(command)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said: list[str] = []
        while not said or not said[-1].startswith("epoch "):
            said.append(process.stderr.readline())
            assert said[-1], said
        time.sleep(0.05)
        process.send_signal(number)
        said += process.stderr.readlines()
    assert process.returncode == code, said
    assert not any("Traceback" in text for text in said)
    (resume,) = [text.strip() for text in said if text.startswith("  hwnas train")]
    assert 0 < resume_point(inputs / "my run").epoch < 20
    assert run(resume.removeprefix("hwnas ")) == 0
    assert "resuming after epoch" in capsys.readouterr().err
    assert resume_point(inputs / "my run").epoch == 20


def test_resume_keeps_what_is_not_said_again_and_refuses_what_differs(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train tiny.yaml --data data --recipe quick.yaml --epochs 1 --limit 12 --accelerator cpu") == 0
    assert run("train tiny.yaml --data data --resume --accelerator cpu") == 0
    assert "into trainings/tiny-1" in capsys.readouterr().err
    assert run("train tiny.yaml --data data --resume --seed 9 --accelerator cpu") == 2
    assert "seed: 0 there, 9 requested" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "complaint"),
    [
        (
            "train tiny.yaml --data nowhere",
            2,
            "no such data folder or archive: nowhere; expected are DATA/train",
        ),
        ("train tiny.yaml --data data --recipe smal", 2, "Did you mean 'small'?"),
        ("train tiny.yaml --data data --recipe quick.yaml --epochs 0", 2, "epochs: must be from 1"),
        ("train tiny.yaml --data data --recipe quick.yaml --lr nan", 2, "lr: must be above 0"),
        ("train tiny.yaml --data data --recipe quick.yaml --limit 2", 2, "each of the 3 classes an image"),
        ("train tiny.yaml --data data --recipe quick.yaml --accelerator tpu", 2, "unknown accelerator 'tpu'"),
        ("train tiny.yaml --data data --recipe quick.yaml --stem-stride 5", 2, "stem_stride: must be"),
        ("train tiny.yaml --data data --recipe quick.yaml --init tiny.yaml", 6, "not a safetensors file"),
        ("train tiny.yaml --data data --recipe quick.yaml --resume", 2, "no training of tiny in trainings"),
        ("train tiny.yaml --data tiny.yaml --recipe quick.yaml", 2, "data must be a folder or a tar"),
        ("evaluate nowhere --data data", 2, "no such checkpoint: nowhere"),
        ("evaluate quick.yaml --data data", 6, "not a safetensors file"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    inputs: Path, capsys: pytest.CaptureFixture[str], line: str, code: int, complaint: str
) -> None:
    assert run(line) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    (error,) = [text for text in printed.err.splitlines() if text.startswith("error: ")]
    assert complaint in error


def test_evaluating_on_foreign_classes_names_them(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train tiny.yaml --data data --recipe quick.yaml --epochs 1 --out out --accelerator cpu") == 0
    Path("data/test/red").rename("data/test/violet")
    assert run("evaluate out --data data --accelerator cpu") == 2
    assert (
        "unknown classes in 'test': 'violet' is not among 'blue', 'green', 'red'" in capsys.readouterr().err
    )
