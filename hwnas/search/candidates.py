"""candidates.jsonl: reading it, and making sure that its lines belong to the run and say what is true.

The first line holds a digest of the config in run.yaml; each line has a checksum (`hwnas.io.jsonl`).
Files of before either are read too, and then everything that follows from a network's vector is worked
out again. Whichever they are, a line must be within the limits that the config states.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import FileFormatError, SpaceError
from hwnas.io.jsonl import Contents, Kind, read_log
from hwnas.search.config import SearchConfig
from hwnas.search.problem import ROUNDING, Problem
from hwnas.search.trial import Trial
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace

__all__ = [
    "CANDIDATES",
    "CANDIDATE_LOG",
    "belongs_to",
    "check_belongs_to",
    "check_predictions",
    "read_candidates",
]

CANDIDATES = "candidates.jsonl"
CANDIDATE_LOG = Kind(
    "hwnas candidates",
    noun="a candidate of a search",
    fix="Delete that line to go on without it, or start a new run",
    old_keys=("id",),
    version=2,  # 1: an estimate as one list of four numbers; 2: a field for each
)
TOLERANCE = 1e-6
"""How far a recorded prediction may be from the one that is made now, relative."""


def belongs_to(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What the lines of a run's logs belong to; `plain` is the config as run.yaml holds it."""
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return {"config": hashlib.sha256(canonical.encode()).hexdigest()[:16]}


def check_belongs_to(path: Path, contents: Contents, plain: Mapping[str, Any]) -> None:
    """Raises FileFormatError when a log of a run says that it belongs to another config."""
    if contents.of is not None and contents.of != belongs_to(plain):
        raise FileFormatError(
            f"{path}: its lines belong to another config than the one in {path.parent / 'run.yaml'}: "
            "that file was edited or replaced. Restore it, or start a new run in another folder"
        )


def read_candidates(
    run: Path, config: SearchConfig, space: SearchSpace, *, plain: Mapping[str, Any]
) -> tuple[tuple[Trial, ...], bool]:
    """The candidates of a run in their order, and whether each line has its checksum.

    `plain` is the config as run.yaml holds it. A line that is there twice counts once. Raises
    FileFormatError when a line is damaged, exceeds a limit of the config, or belongs to another one.
    """
    path = run / CANDIDATES
    contents = read_log(path, CANDIDATE_LOG)
    check_belongs_to(path, contents, plain)
    limits = list(_limits(config))
    configurations = {one.device for one in config.configurations} or {""}
    trials: dict[str, Trial] = {}
    lines: dict[str, dict[str, Any]] = {}
    for number, row in contents.numbered():
        source = f"{path}: line {number}"
        trial = Trial.from_dict(row, accuracy_unit=config.accuracy_unit, source=source)
        _check_limits(trial, limits, source)
        if trial.configuration not in configurations:
            raise FileFormatError(
                f"{source}: the run has the configurations {', '.join(sorted(configurations))}, got "
                f"'{trial.configuration}': the line or run.yaml was edited"
            )
        if not contents.checked:
            _check_derived(trial, space, source)
        if trial.id in trials:
            if lines[trial.id] != row:
                raise FileFormatError(
                    f"{source}: candidate {trial.id} is there twice, with different numbers. "
                    f"{CANDIDATE_LOG.fix}"
                )
            continue
        trials[trial.id], lines[trial.id] = trial, row
    return tuple(trials.values()), contents.checked


def check_predictions(run: Path, problem: Problem, trials: Sequence[Trial]) -> None:
    """Raises FileFormatError when the table predicts other latencies for the candidates than the run says."""
    if not trials:
        return
    recorded = np.array([trial.latency.value for trial in trials])
    predicted = problem.latencies_ms([trial.vector for trial in trials])
    wrong = np.flatnonzero(~np.isclose(recorded, predicted, rtol=TOLERANCE, atol=0.0))
    if len(wrong):
        trial = trials[int(wrong[0])]
        raise FileFormatError(
            f"{run / CANDIDATES}: candidate {trial.id} has a latency of {trial.latency.value:.6g} ms, but "
            f"its table predicts {predicted[wrong[0]]:.6g} ms ({len(wrong)} such lines). {CANDIDATE_LOG.fix}"
        )


def _limits(config: SearchConfig) -> Iterator[tuple[str, float]]:
    """(name of a quantity, its upper limit) of all that a candidate must be within."""
    for name, target in zip(config.latencies, config.targets, strict=True):
        yield name, target.budget_ms
    yield from config.limits.items()


def _check_limits(trial: Trial, limits: Sequence[tuple[str, float]], source: str) -> None:
    for name, most in limits:
        try:
            value = trial.number(name)
        except KeyError:
            raise FileFormatError(f"{source}: the candidate does not say its {name}") from None
        if not 0 < value <= most * (1 + ROUNDING):
            raise FileFormatError(
                f"{source}: a candidate of this run has at most {most:g} of {name}, got {value:.6g}: the "
                "line or run.yaml was edited. Restore it, or start a new run in another folder"
            )
    numbers = (trial.latency.value, trial.accuracy.std, trial.accuracy.value)
    if not (all(map(math.isfinite, numbers)) and trial.params > 0 and trial.macs > 0):
        raise FileFormatError(f"{source}: the numbers of a candidate must be finite, and its sizes positive")


def _check_derived(trial: Trial, space: SearchSpace, source: str) -> None:
    """Works out again what follows from the vector."""
    try:
        arch = space.decode(trial.vector)
    except SpaceError as error:
        raise FileFormatError(f"{source}: not a candidate of a search: {error}") from None
    if arch.id != trial.id:
        raise FileFormatError(
            f"{source}: candidate {trial.id} is another network to this hwnas ({arch.id}): the line was "
            "edited, or the run is to be read with the hwnas that wrote it"
        )
    ops = lower(arch)
    if (trial.params, trial.macs) != (count_params(ops), count_macs(ops)):
        raise FileFormatError(
            f"{source}: candidate {trial.id} has {count_params(ops)} parameters and {count_macs(ops)} MACs, "
            f"got {trial.params} and {trial.macs}: the line was edited"
        )
