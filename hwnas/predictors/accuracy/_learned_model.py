"""Numbers of networks -> accuracy: an average of five regressions, honest about what it can't know.

For tens of rows and tens of columns: a Bayesian ridge regression and a Gaussian process, each on all
columns and on a few telling ones alone, and randomised trees, all of scikit-learn, which err differently.
With few rows the few columns are learnt well; with more, the others add to them. The deviations are scaled
so that in cross-validation they are as large as the errors were.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.types import Floats

__all__ = ["LearnedModel", "cross_validated", "fit", "folds"]


FOLDS = 5
"""Parts that the rows are cut into to calibrate the deviations."""
TREES = 100


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """A fitted average; made by `fit`."""

    members: tuple[Any, ...]
    """Fitted regressors of scikit-learn."""
    deviation_factor: float
    """What the members' own deviations are multiplied by."""

    def predict(self, columns: Floats) -> tuple[Floats, Floats]:
        """Values and deviations, each (n,), of networks (n, columns)."""
        values, deviations = _averaged(self.members, columns)
        return values, deviations * self.deviation_factor


def fit(columns: Floats, values: Floats, few: Sequence[int]) -> LearnedModel:
    """The average fitted on networks (n, columns) and their accuracies (n,); `few`: the telling columns."""
    members = _fitted(columns, values, few)
    predicted, deviations = _left_out(columns, values, few)
    ratio = np.square((predicted - values) / deviations)
    return LearnedModel(members, math.sqrt(float(ratio.mean())))


def cross_validated(
    columns: Floats, values: Floats, few: Sequence[int], *, parts: int
) -> tuple[Floats, Floats]:
    """Value and deviation of each network, (n,), from a model that was fitted without its part."""
    predicted, deviations = np.empty(len(values)), np.empty(len(values))
    for held in folds(len(values), parts):
        model = fit(columns[~held], values[~held], few)
        predicted[held], deviations[held] = model.predict(columns[held])
    return predicted, deviations


def folds(count: int, parts: int) -> list[NDArray[np.bool_]]:
    """Which of `count` rows each part holds; always the same, in no order of theirs."""
    order = list(range(count))
    random.Random(0).shuffle(order)
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count) % parts
    return [place == part for part in range(min(parts, count))]


def _left_out(columns: Floats, values: Floats, few: Sequence[int]) -> tuple[Floats, Floats]:
    predicted, deviations = np.empty(len(values)), np.empty(len(values))
    for held in folds(len(values), FOLDS):
        members = _fitted(columns[~held], values[~held], few)
        predicted[held], deviations[held] = _averaged(members, columns[held])
    return predicted, deviations


def _fitted(columns: Floats, values: Floats, few: Sequence[int]) -> tuple[Any, ...]:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    members: list[Any] = [ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)]
    for chosen in (list(range(columns.shape[1])), list(few)):
        reach = math.sqrt(len(chosen))  # two networks are about so far apart in standardised columns
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * RBF(2 * reach, (0.5 * reach, 20 * reach))
        process = GaussianProcessRegressor(
            kernel + WhiteKernel(0.1, (0.01, 1.0)), normalize_y=True, random_state=0
        )
        members += [
            make_pipeline(make_column_transformer((StandardScaler(), chosen)), regression)
            for regression in (BayesianRidge(), process)
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is meant to be there
        for member in members:
            member.fit(columns, values)
    return tuple(members)


def _averaged(members: tuple[Any, ...], columns: Floats) -> tuple[Floats, Floats]:
    """The members' mean, and the deviation of their mixture."""
    values, variances = [], []
    for member in members:
        if hasattr(member, "estimators_"):
            trees = np.stack([tree.predict(columns) for tree in member.estimators_])
            values.append(trees.mean(axis=0))
            variances.append(trees.var(axis=0))
        else:
            value, deviation = member.predict(columns, return_std=True)
            values.append(value)
            variances.append(np.square(deviation))
    spread = np.mean(variances, axis=0) + np.var(values, axis=0)
    return np.mean(values, axis=0), np.sqrt(np.maximum(spread, 1e-12))
