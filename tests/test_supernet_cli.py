"""`hwnas supernet` and what takes a supernet on the command line: train, evaluate, search, --init."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("safetensors")

from conftest import Answer
from report_fakes import Page
from supernet_samples import SPACE
from train_samples import squares

from hwnas.io import yaml as yaml_io
from hwnas.io.jsonl import read_log
from hwnas.space import preset
from hwnas.supernet.sandwich import Sandwich
from hwnas.train.trainings import TRAININGS, remember

Hwnas = Callable[..., Answer]


def asked(hwnas: Hwnas, line: str) -> Answer:
    return hwnas(*line.split())


@pytest.mark.slow
def test_from_training_to_a_front_and_a_network_trained_on(
    hwnas: Hwnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    squares(Path("data"), train=40, test=4)
    Path("space.yaml").write_text(yaml_io.dump(SPACE.to_dict()))
    words = "supernet train --data data --space space.yaml --epochs 2 --batch 16 --lr 0.003 --limit 36 "
    words += "--set held_back=9 --set calibration_images=12 --accelerator cpu --out super"
    done = asked(hwnas, words + " --json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert len(document["history"]) == 2 and document["settings"]["lr"] == 0.003
    assert "epoch 2: loss" in done.err and "hwnas search" in done.err
    report = Page(Path("super/report.html").read_text())
    assert set(report.specs()) == {"loss", "accuracy"}
    assert "largest single-head" in report.text or "largest reuse" in report.text
    assert asked(hwnas, words).code == 2
    resumed = asked(hwnas, "supernet train --data data --out super --resume --accelerator cpu")
    assert resumed.code == 0 and "resuming after epoch 2 of 2" in resumed.err

    Path("net.yaml").write_text(Sandwich(SPACE).largest[0].to_yaml())
    judged = asked(hwnas, "supernet evaluate super net.yaml --json --accelerator cpu")
    network = json.loads(judged.out)["networks"][0]
    assert network["name"] == "net" and network["images"] == 9
    assert network["estimate_percent"] is None and network["shared_loss"] > 0, "it was not calibrated"
    assert "with shared weights" in asked(hwnas, "supernet evaluate super net.yaml --accelerator cpu").out

    trained = asked(
        hwnas,
        "train net.yaml --data data --recipe small --epochs 1 --image-size 16 --init supernet:super "
        "--accelerator cpu --workers 0 --out alone",
    )
    assert trained.code == 0, trained.err
    assert "supernet super:" in trained.err and "freshly initialised" not in trained.err
    few = asked(hwnas, "supernet calibrate super . --accelerator cpu")
    assert few.code == 2 and "at least 4 trained networks, got 1" in few.err
    (row,) = read_log(Path("trainings.jsonl"), TRAININGS).rows
    sandwich = Sandwich(SPACE)
    others = [*sandwich.largest[1:], *sandwich.smallest[1:], preset("uniform-t").adapted(classes=3)]
    for number, arch in enumerate(others):  # the last one is in another space, and not used
        more = {**row, "id": arch.id, "arch": arch.to_dict(), "top1_percent": 50.0 + number}
        remember(more, Path("trainings.jsonl"))
    enough = asked(hwnas, "supernet calibrate super . --accelerator cpu --json")
    assert json.loads(enough.out)["trainings"] == 7, enough.err
    assert "expected when trained" in asked(hwnas, "supernet evaluate super net.yaml --accelerator cpu").out

    tuned = "--data data --updates 2 --accelerator cpu"
    unasked = asked(hwnas, f"supernet evaluate super net.yaml {tuned}")
    assert "after 2 updates of its own" in unasked.out and "expected" not in unasked.out, unasked.err
    assert asked(hwnas, f"supernet calibrate super . {tuned}").code == 0
    assert "expected when trained" in asked(hwnas, f"supernet evaluate super net.yaml {tuned}").out
    without = asked(hwnas, "supernet evaluate super net.yaml --updates 2 --accelerator cpu")
    assert without.code == 2 and "add --data DATA" in without.err

    for name, content in (("cut", b"{}"), ("pickle", b"\x80\x02")):
        Path(f"{name}.safetensors").write_bytes(content)
        refused = hwnas("supernet", "evaluate", f"{name}.safetensors", "net.yaml")
        assert refused.code == 6 and refused.err.count("\n") == 1


def test_a_search_asks_the_supernet(hwnas: Hwnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    squares(Path("data"), train=40, test=4)
    space = SPACE.to_dict()
    Path("space.yaml").write_text(yaml_io.dump(space))
    words = "supernet train --data data --space space.yaml --epochs 1 --batch 16 --limit 36 --out super "
    words += "--set held_back=9 --set calibration_images=12 --accelerator cpu --image-size 16 --stem-stride 4"
    assert asked(hwnas, words).code == 0
    # The search's networks see larger images than the supernet's, as a board's do.
    Path("board.yaml").write_text(yaml_io.dump({**space, "resolution": [224], "stem_stride": [16]}))
    found = asked(
        hwnas,
        "search --device rpi4 --budget 40ms --space board.yaml --accuracy supernet:super --trials 5 "
        "--sampler random --out run --json",
    )
    assert found.code == 0, found.err
    front = json.loads(found.out)["front"]
    assert front and all(one["accuracy"] < 0 < one["accuracy_std"] for one in front)
    assert json.loads(found.out)["accuracy_unit"] == "nats"
    assert (
        "estimates are of networks at 16 px, stem stride 4, 3 classes; latency and budget are of" in found.err
    )
    # Judged, they are smaller than on the board: other networks, which are predicted anew.
    judged = asked(hwnas, "supernet evaluate super run --json --accelerator cpu")
    assert judged.code == 0 and "at 16 px, stem stride 4: " in judged.err and "within the 40 ms" in judged.err
    names = [one["name"] for one in json.loads(judged.out)["networks"]]
    assert names[0] == "run#1 at 16 px, stem stride 4"
    # Without a space of its own, a search is of the networks that the supernet was trained for.
    own = asked(
        hwnas,
        "search --device rpi4 --budget 40ms --accuracy supernet:super --trials 3 --sampler random "
        "--out own --json",
    )
    assert own.code == 0, own.err
    arch = json.loads(own.out)["front"][0]["arch"]
    assert (arch["resolution"], arch["stem"]["stride"], arch["head"]["classes"]) == (16, 4, 3)
    missing = asked(hwnas, "search --device rpi4 --budget 40ms --accuracy supernet:nothing")
    assert missing.code == 2 and "no such checkpoint" in missing.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--image-size 4", "--image-size must be from 8 to 2048, got 4"),
        ("--stem-stride 3", "--stem-stride must be 2, 4, 8 or 16, got 3"),
        ("--set widths=3", "widths: no such field"),
        ("--max-macs many", "--max-macs must be a positive number"),
        ("--epochs 0", "epochs: must be from 1"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_decoded(hwnas: Hwnas, words: str, said: str) -> None:
    answer = hwnas("supernet", "train", "--data", "nowhere", *words.split())
    assert answer.code == 2 and said in answer.err
