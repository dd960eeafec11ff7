"""A run as an Optuna study: what Optuna loads is what the run recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_fakes import by_size, small_space, table

from hwnas.errors import UsageError
from hwnas.search import SearchResult, search
from hwnas.search.optuna_export import export_study


def loaded(path: Path, name: str) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def started(path: Path, **options: Any) -> SearchResult:
    return search(
        small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=40, out=path, **options
    )


def test_optuna_loads_every_candidate_with_its_choices_and_values(tmp_path: Path) -> None:
    result = started(tmp_path / "run")
    study = loaded(tmp_path / "study.log", export_study(result, tmp_path / "study.log"))
    assert study.study_name == "run"
    assert [one.name for one in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.metric_names == ["latency", "accuracy"]
    assert study.user_attrs["within"] == "0.9 ms on toy"
    for trial, ours in zip(study.trials, result.trials, strict=True):
        arch = small_space().decode(ours.vector)
        assert trial.values == [ours.latency.value, ours.accuracy.value]
        assert trial.user_attrs["network"] == arch.id
        assert trial.params["stages.0.width"] == arch.stages[0].width
        assert trial.params["stages.1.layout"] == arch.stages[1].layout
        blocks = [name for name in trial.params if name.startswith("stages.1.blocks.")]
        assert len(blocks) == arch.stages[1].depth, "blocks that a network has not are no parameters"
        first = arch.stages[0].blocks[0]
        said = trial.params["stages.0.blocks.0"]
        assert said == "none" if first is None else json.loads(said)["type"] == first.type
    best = {ours.id for ours in result.front}
    assert best <= {trial.user_attrs["network"] for trial in study.best_trials}


def test_a_journal_is_replaced_and_further_objectives_are_values(tmp_path: Path) -> None:
    export_study(started(tmp_path / "first"), tmp_path / "study.log")
    result = started(tmp_path / "second", objectives=("params",))
    study = loaded(tmp_path / "study.log", export_study(result, tmp_path / "study.log"))
    assert [summary.study_name for summary in optuna.get_all_study_summaries(study._storage)] == ["second"]
    assert study.metric_names == ["latency", "params", "accuracy"]
    assert study.trials[-1].values[1] == result.trials[-1].params
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second", "study.log"]


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="journal must be writable"):
        export_study(started(tmp_path / "run"), tmp_path / "nowhere" / "study.log")
