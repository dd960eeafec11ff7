"""Which rows to measure on a new device: those that leave the least unknown about all the others."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError
from hwnas.predictors.latency.transfer.process import covariance, prior_parts
from hwnas.predictors.latency.transfer.rows import Rows, describe_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["choose_samples"]

_POOL = 1000
_MOST_CHOSEN_WELL = 300
_NOISE = 0.03
"""Relative error of a measurement that the choice reckons with."""


def choose_samples(features: pd.DataFrame, sources: pd.DataFrame, n: int, seed: int) -> list[Hashable]:
    """The labels of `n` rows to measure, the most telling first; all rows where there are fewer.

    Greedy: each next row is the one that lowers most the mean variance of all rows, under the prior that
    `fit_transfer` starts from. Among very many rows, 1,000 drawn by `seed` are looked at. The same arguments
    give the same rows. Raises UsageError where n is below 1.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1, got {n}")
    rows = describe_rows(features, sources)
    distinct = np.array(sorted(rows.places.values()), dtype=int)
    rng = np.random.default_rng(seed)
    if len(distinct) <= n:
        return [rows.labels[at] for at in distinct]
    pool = rng.permutation(distinct)[: max(_POOL, n)]
    chosen = _greedy(rows, pool[:_POOL], min(n, _MOST_CHOSEN_WELL, len(pool)))
    if len(chosen) < n:
        taken = np.isin(pool, chosen)
        chosen = [*chosen, *pool[~taken][: n - len(chosen)].tolist()]
    return [rows.labels[at] for at in chosen]


def _greedy(rows: Rows, pool: NDArray[np.int_], n: int) -> list[int]:
    """`n` of the pool, each the one that explains most of what is still unknown."""
    terms, smooth = prior_parts(rows, rows.typical)
    left = covariance(terms, smooth, pool)
    noise = _NOISE**2
    chosen: list[int] = []
    free = np.ones(len(pool), dtype=bool)
    for _ in range(n):
        gain = (left**2).sum(axis=0) / (np.diag(left) + noise)
        best = int(np.where(free, gain, -1.0).argmax())
        free[best] = False
        chosen.append(int(pool[best]))
        column = left[:, best].copy()
        left -= np.outer(column, column) / (column[best] + noise)
    return chosen
