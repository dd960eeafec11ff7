"""A run as an Optuna study in a journal file, which Optuna's dashboard opens.

    hwnas search --resume RUN --optuna-journal study.log
    optuna-dashboard study.log

The run directory stays what a search goes on from: the study is a copy, made anew each time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection

from hwnas.errors import UsageError
from hwnas.io.atomic import write_whole
from hwnas.search.run import SearchResult
from hwnas.search.samplers._proposing import quiet_optuna
from hwnas.search.trial import Trial
from hwnas.space.search_space import INACTIVE, SearchSpace

__all__ = ["export_study"]


def export_study(result: SearchResult, path: Path) -> str:
    """Writes the journal, whole or not at all; gives the study's name.

    A trial for each candidate, in the order of the record: the choices that were made as parameters, by
    their names in the space; what is minimised and the estimated accuracy as values. Replaces a journal
    that was there. Raises UsageError when the file cannot be written.
    """
    config = result.config
    name = (
        result.path.name
        if result.path is not None
        else "-".join(f"{one.device}-{one.budget_ms:g}ms" for one in config.targets)
    )
    memory = _Memory()
    storage = optuna.storages.JournalStorage(memory)
    minimised = config.minimised
    directions = [StudyDirection.MINIMIZE] * len(minimised) + [StudyDirection.MAXIMIZE]
    with quiet_optuna():
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        study.set_metric_names([*minimised, "accuracy"])
    study.set_user_attr("within", config.within)
    study.set_user_attr("accuracy", f"{config.accuracy}, {config.accuracy_unit}, estimated")
    study.set_user_attr("latency", config.provenance)
    choices = _choices(result.space)
    for trial in result.trials:
        study.add_trial(_exported(trial, choices, minimised))
    try:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / path.name
            JournalFileBackend(str(written)).append_logs(memory.logs)
            write_whole(path, written.read_bytes())
    except OSError as error:
        raise UsageError(f"the journal must be writable: {path}: {error.strerror}") from None
    return name


class _Memory(BaseJournalBackend):
    """A journal in memory: a file would wait for the disk after each trial."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += [json.loads(json.dumps(log)) for log in logs]


def _choices(space: SearchSpace) -> list[tuple[str, CategoricalDistribution, list[Any]]]:
    """Name, range and choices of each decision."""
    found = []
    for decision in space.decisions:
        names = [choice if isinstance(choice, int) else _named(choice) for choice in decision.choices]
        found.append((decision.name, CategoricalDistribution(names), names))
    return found


def _named(choice: Any) -> str:
    """An attention, as a space's file writes it, or a layout."""
    if isinstance(choice, str):
        return choice
    data = choice.to_dict()
    return data if isinstance(data, str) else json.dumps(data, separators=(", ", ": "))


def _exported(
    trial: Trial, choices: list[tuple[str, CategoricalDistribution, list[Any]]], minimised: Iterable[str]
) -> optuna.trial.FrozenTrial:
    params: dict[str, Any] = {}
    ranges: dict[str, BaseDistribution] = {}
    for (name, range_, names), number in zip(choices, trial.vector, strict=True):
        if number != INACTIVE and len(names) > 1:
            params[name], ranges[name] = names[number], range_
    return optuna.trial.create_trial(
        params=params,
        distributions=ranges,
        values=[*(trial.number(name) for name in minimised), trial.accuracy.value],
        user_attrs={
            "network": trial.id,
            "params": trial.params,
            "macs": trial.macs,
            "accuracy deviation": trial.accuracy.std,
        },
    )
