"""From a search to a measured file: each step says what the network is and how long it takes.

The commands are those of the README, on a folder of colours with one epoch. Milliseconds and ids are read
from what each step prints or writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest.importorskip("timm")
pytest.importorskip("onnxruntime")
pytest.importorskip("safetensors")

from conftest import Answer
from train_samples import squares

from hwnas.predictors.latency import LatencyTable
from hwnas.space import ArchSpec

Hwnas = Callable[..., Answer]

BUDGET_MS = 20.0
SEARCH = "search --device rpi4 --budget 20ms --data photos --image-size 96 --stem-stride 4"
TRAIN = "train RUN#1 --data photos --recipe small --out trained"
FINETUNE = "train RUN#1 --data photos --recipe small-finetune --init trained --out finer"
EXPORT = "export finer --out model.onnx --evaluate photos"
"""As the README has them, there for FOLDER."""

SAID = re.compile(r"at (\d+) px, stem stride (\d+): ([\d.]+) ms on rpi4, (within|over) the 20 ms budget")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photos of three colours, and trainings of a moment."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"EPOCHS": "1", "BATCH": "12", "WORKERS": "0", "ACCELERATOR": "cpu"}.items():
        monkeypatch.setenv(f"HWNAS_TRAIN_{name}", value)
    monkeypatch.setenv("HWNAS_SEARCH_TRIALS", "60")
    squares(tmp_path / "photos")
    return tmp_path


def run(hwnas: Hwnas, line: str, *more: str) -> Answer:
    """The README's line, with RUN as the search of the test calls it."""
    return hwnas(*line.replace("RUN#", "run#").split(), *more)


def predicted_ms(arch: Mapping[str, object]) -> float:
    """The network by the table itself, apart from what any step says."""
    return LatencyTable.load("rpi4").predict(ArchSpec.from_dict(arch)).value


def test_these_are_the_commands_of_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for line in (SEARCH, TRAIN, FINETUNE, EXPORT):
        assert f"    hwnas {line.replace('photos', 'FOLDER')}" in readme


def test_the_budget_holds_from_the_search_to_the_measured_file(hwnas: Hwnas, here: Path) -> None:
    found = run(hwnas, SEARCH, "--out", "run", "--json")
    assert found.code == 0, found.err
    assert "photos: 3 classes" in found.err and "at 96 px, stem stride 4, 3 classes" in found.err
    first = json.loads(found.out)["front"][0]
    arch = ArchSpec.from_dict(first["arch"])
    assert (arch.resolution, arch.stem.stride, arch.classes) == (96, 4, 3)
    assert first["latency_ms"] == pytest.approx(predicted_ms(first["arch"]), rel=1e-6)
    assert first["latency_ms"] <= BUDGET_MS

    described = run(hwnas, "describe RUN#1 --device rpi4", "--json")
    document = json.loads(described.out)
    assert document["id"] == first["id"]
    assert document["latency_ms"] == pytest.approx(first["latency_ms"], rel=1e-6)

    # Fewer pixels: another network, faster.
    trained = run(hwnas, TRAIN)
    assert trained.code == 0, trained.err
    assert "recipe small: trains at 64 px, stem stride 4; run#1 is for 96 px, stem stride 4" in trained.err
    result = json.loads((here / "trained" / "result.json").read_text())
    assert (result["name"], result["id"]) == ("run#1 at 64 px", arch.adapted(resolution=64).id)
    assert first["id"] not in trained.err + trained.out, "the id of the found network is not this one's"
    said = SAID.search(trained.err)
    assert said and said.groups()[:2] == ("64", "4") and said[4] == "within"
    assert float(said[3]) == pytest.approx(predicted_ms(result["arch"]), rel=0.01)
    assert result["promise"] == {
        "run": "run",
        "network": first["id"],
        "targets": [{"device": "rpi4", "budget_ms": 20.0, "confidence": None, "budget_on": "p50"}],
    }

    # Back at the size of the search: the network that was found.
    finer = run(hwnas, FINETUNE)
    assert finer.code == 0, finer.err
    result = json.loads((here / "finer" / "result.json").read_text())
    assert (result["name"], result["id"]) == ("run#1", first["id"])
    said = SAID.search(finer.err)
    assert said and said.groups() == ("96", "4", f"{first['latency_ms']:.3g}", "within")

    exported = run(hwnas, EXPORT)
    assert exported.code == 0, exported.err
    assert first["id"] in exported.out
    said = SAID.search(exported.out)
    assert said and said.groups() == ("96", "4", f"{first['latency_ms']:.3g}", "within")
    card = json.loads((here / "model.onnx.card.json").read_text())
    assert (card["name"], card["id"]) == ("run#1", first["id"])
    assert card["searched_for"]["is_as_found"] is True
    (target,) = card["targets"]
    assert target["within"] is True and target["budget_ms"] == BUDGET_MS
    assert target["predicted_ms"] == pytest.approx(first["latency_ms"], rel=1e-6)

    measured = run(hwnas, "measure model.onnx --rounds 1", "--json")
    assert measured.code == 0, measured.err
    card = json.loads((here / "model.onnx.card.json").read_text())
    assert card["id"] == first["id"]
    assert card["latency"]["measured"][0]["ms"] > 0


def test_a_network_made_larger_than_its_budget_is_refused_and_says_by_how_much(
    hwnas: Hwnas, here: Path
) -> None:
    """What the README's path did before: a search at 224 pixels, then the recipes for small images."""
    found = run(hwnas, "search --device rpi4 --budget 20ms", "--out", "run", "--json")
    arch = ArchSpec.from_dict(json.loads(found.out)["front"][0]["arch"])
    small = arch.adapted(resolution=64, stem_stride=4, classes=3)
    for recipe, side in (("small", 64), ("small-finetune", 96)):
        refused = run(hwnas, f"train RUN#1 --data photos --recipe {recipe} --out no")
        assert refused.code == 3
        said = SAID.search(refused.err)
        assert said and said.groups()[:2] == (str(side), "4") and said[4] == "over"
        expected = predicted_ms(small.adapted(resolution=side).to_dict())
        assert float(said[3]) == pytest.approx(expected, rel=0.01) and expected > BUDGET_MS
        assert "--over-budget ok" in refused.err
        assert f"run#1 with 3 classes at {side} px, stem stride 4" in refused.err
        assert not (here / "no").exists(), "nothing is trained"

    told = run(hwnas, "train RUN#1 --data photos --recipe small --out big --over-budget ok")
    assert told.code == 0 and SAID.search(told.err)
    resumed = run(hwnas, "train RUN#1 --data photos --out big --resume")
    assert resumed.code == 0, "it was told when it began"

    refused = run(hwnas, "export big --out big.onnx")
    assert refused.code == 3 and not (here / "big.onnx").exists()
    assert run(hwnas, "export big --out big.onnx --over-budget ok").code == 0
    text = (here / "big.onnx.card.md").read_text()
    assert text.startswith("# run#1 with 3 classes at 64 px, stem stride 4\n")
    assert f"it found the network of id {arch.id}" in text and "over the budget" in text
    card = json.loads((here / "big.onnx.card.json").read_text())
    assert card["id"] == small.id and card["targets"][0]["within"] is False

    # The weights bring the promise, too: another size of theirs is refused by any name of the network.
    (here / "mine.yaml").write_text(small.to_yaml())
    refused = run(hwnas, "train mine.yaml --data photos --recipe small-finetune --init big --out no")
    assert refused.code == 3 and SAID.search(refused.err)


def test_every_verb_that_changes_a_network_asks_the_same_question(hwnas: Hwnas, here: Path) -> None:
    run(hwnas, "search --device rpi4 --budget 20ms", "--out", "run")
    pytest.importorskip("pycocotools")
    dense = run(hwnas, "dense train RUN#1 --task detect --data nowhere --recipe small --stem-stride 4")
    assert dense.code == 3
    assert "the backbone, of a square image and without the head of the task, at 128 px" in dense.err
    many = run(hwnas, "train-many run --data photos --recipe small")
    assert many.code == 3 and "run#1 with 3 classes at 64 px, stem stride 4: at 64 px" in many.err
    unknown = run(hwnas, "train RUN#1 --data photos --over-budget maybe")
    assert unknown.code == 2 and "--over-budget must be stop or ok, got 'maybe'" in unknown.err


def test_a_device_without_a_table_here_is_said_and_stops_nothing(hwnas: Hwnas, here: Path) -> None:
    table = LatencyTable.load("rpi4")
    table.save(here / "board.yaml")
    done = run(hwnas, "search --device ./board.yaml --budget 20ms --trials 20", "--out", "run")
    assert done.code == 0, done.err
    (here / "board.yaml").unlink()
    trained = run(hwnas, TRAIN)
    assert trained.code == 0, trained.err
    line = "at 64 px, stem stride 4: cannot be checked against the 20 ms budget of its run on ./board.yaml"
    assert f"{line}: no table file './board.yaml'" in trained.err
