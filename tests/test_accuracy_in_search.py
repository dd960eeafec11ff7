"""Every estimator that needs something of the user's, asked by a search."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from search_fakes import small_space, table
from train_samples import squares

from hwnas.predictors.accuracy import zero_cost
from hwnas.search import resume, search
from hwnas.train.trainings import TABLE, remember

ALIKE = "side=16,stem=4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and a table of eight trainings."""
    folder = tmp_path_factory.mktemp("in-search")
    squares(folder / "images", train=8, test=4)
    space, rng = small_space(), random.Random(0)
    for number in range(8):
        arch = space.sample(rng)
        remember(
            {
                "schema": 1,
                "id": arch.id,
                "seed": 0,
                "top1_percent": 50.0 + number,
                "data": {"name": "squares", "digest": "abc", "train_images": 24},
                "recipe": {"epochs": 2},
                "init": "",
                "arch": arch.to_dict(),
            },
            folder / TABLE,
        )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "unit"),
    [
        (f"zero-cost:{{folder}}/images,proxy=synflow+naswot,images=12,inits=1,{ALIKE}", "sd"),
        (f"short-training:{{folder}}/images,epochs=2,images=24,test=12,batch=12,{ALIKE}", "%"),
        ("learned:{folder}", "%"),
    ],
)
def test_a_search_asks_the_estimator_and_a_resumed_one_goes_on_with_it(
    reference: str, unit: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero_cost, "REFERENCES", 2)
    monkeypatch.chdir(folder)
    reference = reference.format(folder=folder)
    device = table()
    begun = search(
        small_space(), device=device, budget_ms=5.0, accuracy=reference, trials=2, out=tmp_path / "run"
    )
    result = resume(tmp_path / "run", trials=3, device=device)
    assert len(result.trials) == 3 and result.trials[:2] == begun.trials
    assert result.config.accuracy == reference and result.config.accuracy_unit == unit
    assert all(trial.accuracy.unit == unit for trial in result.trials)
    assert len({trial.accuracy.value for trial in result.trials}) > 1
    assert any(trial.accuracy.std > 0 for trial in result.trials)
    assert result.front
