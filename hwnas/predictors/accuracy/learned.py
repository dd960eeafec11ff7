"""Accuracy learnt from the trainings that the user already has.

`learned` reads `trainings/trainings.jsonl`, which every finished `hwnas train` adds a line to;
`learned:TABLE` reads another table, or the one in another folder. Accuracies under different conditions
(images, recipe) don't compare: the condition with the most networks is learnt from, or the one that
`condition=KEY` names. With `data=DATA`, zero-cost scores on those images are learnt from, too.

How good it is: experiments/ground_truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.accuracy import zero_cost
from hwnas.predictors.accuracy._argument import parsed
from hwnas.predictors.accuracy._learned_features import SHAPE, SpaceLearner, learned_features
from hwnas.predictors.accuracy._learned_model import LearnedModel, cross_validated, fit
from hwnas.predictors.accuracy.zero_cost import ZeroCost
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace
from hwnas.train.trainings import Condition, Training, read_trainings
from hwnas.types import Floats, Ints

__all__ = ["FEWEST", "LearnedAccuracy", "estimator", "learned", "left_out"]

DEFAULT_TABLE = Path("trainings")
SCORES = "zero-cost-scores.jsonl"
"""Where zero-cost scores are kept, beside the table."""
FEWEST = 8
"""Networks that must be trained under one condition before anything is learnt."""
INTERVAL_DEVIATIONS = 1.645
"""`low` to `high` holds 90 %."""


@dataclass(frozen=True, slots=True)
class LearnedAccuracy:
    """Estimates top-1 in percent under one condition; made by `learned`."""

    condition: Condition
    networks: int
    """That it has learnt from."""
    model: LearnedModel
    scored: ZeroCost | None = None
    """What zero-cost scores it has learnt from besides; None: from none."""
    _learners: dict[int, tuple[SearchSpace, SpaceLearner]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By the id of the space: the space itself, and what sees its networks as the trained ones were."""

    @property
    def unit(self) -> str:
        return "%"

    @property
    def in_arrays(self) -> bool:
        """Zero-cost scores take seconds for each network; without them it answers for many at once."""
        return self.scored is None

    def predict_many(self, encoded: Ints, space: SearchSpace) -> tuple[Floats, Floats]:
        """Value and standard deviation of many networks, (n,) each, for vectors of a space, (n, decisions).

        Raises UsageError where zero-cost scores were learnt from: those take seconds for each network.
        """
        if self.scored is not None:
            raise UsageError("zero-cost scores are for one network at a time: use predict")
        if id(space) not in self._learners:
            self._learners[id(space)] = space, SpaceLearner(_adapted_space(space, self.condition))
        vectors = np.array(encoded, dtype=np.int64)
        if not len(vectors):
            return np.zeros(0), np.zeros(0)
        for place, fixed in enumerate((self.condition.resolution, self.condition.stem_stride)):
            if fixed is not None:
                vectors[:, place] = 0  # the one choice of the adapted space
        values, deviations = self.model.predict(self._learners[id(space)][1].features(vectors))
        return np.clip(values, 0.0, 100.0), deviations

    def estimate(self, value: float, std: float) -> Estimate:
        """The estimate with this value and standard deviation."""
        return _estimate(value, std)

    def predict(self, arch: ArchSpec) -> Estimate:
        """Top-1 of the network, adapted as the trained ones were; `low` to `high` holds 90 %."""
        columns = _columns(_adapted(arch, self.condition), self.scored)
        values, deviations = self.model.predict(columns[None])
        return _estimate(float(values[0]), float(deviations[0]))


def learned(
    trainings: Sequence[Training], *, condition: str = "", scored: ZeroCost | None = None
) -> LearnedAccuracy:
    """The estimator fitted on the trainings of one condition: the one whose key starts so, or the largest.

    With `scored`, it also learns from zero-cost scores of the networks as they were trained.

    Raises UsageError for an unknown key, and when fewer than FEWEST networks were trained.
    """
    plugins.require("sklearn", extra="learned")
    by_key: dict[str, list[Training]] = {}
    for training in trainings:
        by_key.setdefault(training.condition.key, []).append(training)
    chosen = [rows for key, rows in by_key.items() if key.startswith(condition)]
    if not chosen:
        raise UsageError(
            f"no training under condition '{condition}'. Known: {_shown(by_key.values()) or 'none'}"
        )
    rows = max(chosen, key=lambda rows: len({row.arch.id for row in rows}))
    archs, means = _means(rows)
    if len(archs) < FEWEST:
        raise UsageError(
            f"to learn accuracy, at least {FEWEST} networks must be trained under one condition, got "
            f"{_shown(chosen)}: train more networks of a search's front, on the same data with the same "
            "recipe, or use another estimator"
        )
    columns = np.stack([_columns(arch, scored) for arch in archs])
    return LearnedAccuracy(rows[0].condition, len(archs), fit(columns, np.array(means), SHAPE), scored)


def left_out(
    archs: Sequence[ArchSpec],
    top1_percent: Sequence[float],
    *,
    parts: int = 10,
    scores: NDArray[np.float64] | None = None,
) -> list[Estimate]:
    """What each network is estimated at by what was learnt from the others: cross-validation in `parts`.

    `scores`: zero-cost scores to learn from besides, (networks, proxies).
    """
    columns = np.stack([learned_features(arch) for arch in archs])
    if scores is not None:
        columns = np.concatenate([columns, scores], axis=1)
    values, deviations = cross_validated(
        columns, np.array(top1_percent, dtype=np.float64), SHAPE, parts=parts
    )
    return [_estimate(float(value), float(std)) for value, std in zip(values, deviations, strict=True)]


def estimator(argument: str | None = None) -> LearnedAccuracy:
    """The estimator for `[TABLE][,condition=KEY][,data=DATA]`.

    Raises UsageError for anything else, when there is no table, or too little in it.
    """
    table, options = parsed("learned", argument, {"condition": "", "data": ""})
    path = Path(table) if table else DEFAULT_TABLE
    scored = None
    if options["data"]:
        folder = path if path.is_dir() else path.parent
        scored = zero_cost.estimator(f"{options['data']},journal={folder / SCORES}")
    return learned(read_trainings(path), condition=options["condition"], scored=scored)


def _columns(arch: ArchSpec, scored: ZeroCost | None) -> NDArray[np.float64]:
    """What is learnt from, of a network as trained."""
    own = learned_features(arch)
    return own if scored is None else np.array([*own, *scored.scores(arch, 0).values()])


def _adapted(arch: ArchSpec, condition: Condition) -> ArchSpec:
    return arch.adapted(
        resolution=condition.resolution, classes=condition.classes, stem_stride=condition.stem_stride
    )


def _adapted_space(space: SearchSpace, condition: Condition) -> SearchSpace:
    """The space of its networks as `_adapted` makes them."""
    resolution, stride = condition.resolution, condition.stem_stride
    return dataclasses.replace(
        space,
        resolution=space.resolution if resolution is None else (resolution,),
        stem_stride=space.stem_stride if stride is None else (stride,),
        classes=condition.classes,
    )


def _means(rows: Sequence[Training]) -> tuple[list[ArchSpec], list[float]]:
    """Each network once, with the mean over its seeds."""
    found: dict[str, list[Training]] = {}
    for row in rows:
        found.setdefault(row.arch.id, []).append(row)
    return (
        [one[0].arch for one in found.values()],
        [float(np.mean([row.top1_percent for row in one])) for one in found.values()],
    )


def _estimate(value: float, std: float) -> Estimate:
    low, high = (min(max(value + side * INTERVAL_DEVIATIONS * std, 0.0), 100.0) for side in (-1, 1))
    return Estimate(min(max(value, 0.0), 100.0), std, low, high, "%")


def _shown(groups: Iterable[Sequence[Training]]) -> str:
    """`3 under 1a2b3c4d (NAME, 50000 images, 20 epochs)`: how many networks each condition has."""
    return "; ".join(
        f"{len({row.arch.id for row in rows})} under {rows[0].condition.key} ({rows[0].condition.label})"
        for rows in groups
    )
