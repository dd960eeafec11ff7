"""Which rows to measure on a new device: those that leave the least unknown about all the others."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
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


def choose_samples(
    features: pd.DataFrame,
    sources: pd.DataFrame,
    n: int,
    seed: int,
    *,
    candidates: Iterable[Hashable] | None = None,
) -> list[Hashable]:
    """The labels of `n` rows to measure, the most telling first; all rows where there are fewer.

    Greedy: each next row is the one that lowers most the mean variance of all rows, under the prior that
    `fit_transfer` starts from. Among very many rows, 1,000 drawn by `seed` are looked at. `candidates` are
    the rows that can be measured at all: only these are chosen, but for what they tell of every row. The
    same arguments give the same rows. Raises UsageError where n is no whole number of at least 1, and where a
    candidate is unknown or there is none.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise UsageError(f"n must be a whole number, got {n!r}")
    if n < 1:
        raise UsageError(f"n must be at least 1, got {n}")
    rows = describe_rows(features, sources)
    distinct = np.array(sorted(rows.places.values()), dtype=int)
    if candidates is not None:
        return _among(rows, candidates, distinct, int(n), seed)
    rng = np.random.default_rng(seed)
    if len(distinct) <= n:
        return [rows.labels[at] for at in distinct]
    pool = rng.permutation(distinct)[: max(_POOL, n)]
    chosen = _greedy(rows, pool[:_POOL], min(n, _MOST_CHOSEN_WELL, len(pool)))
    if len(chosen) < n:
        taken = np.isin(pool, chosen)
        chosen = [*chosen, *pool[~taken][: n - len(chosen)].tolist()]
    return [rows.labels[at] for at in chosen]


def _among(
    rows: Rows, candidates: Iterable[Hashable], distinct: NDArray[np.int_], n: int, seed: int
) -> list[Hashable]:
    """`n` of the candidates, which tell most of all rows."""
    able = np.unique(rows.positions(candidates if isinstance(candidates, str | bytes) else list(candidates)))
    if not len(able):
        raise UsageError("candidates must name at least one row, got none")
    rng = np.random.default_rng(seed)
    able = rng.permutation(able)
    if len(able) <= n:
        return [rows.labels[at] for at in sorted(able.tolist())]
    others = rng.permutation(distinct[~np.isin(distinct, able)])
    looked_at = able[:_POOL]
    pool = np.concatenate([looked_at, others[: _POOL - len(looked_at)]])
    chosen = _greedy(rows, pool, min(n, _MOST_CHOSEN_WELL, len(looked_at)), free=np.isin(pool, able))
    rest = able[~np.isin(able, chosen)]
    return [rows.labels[at] for at in [*chosen, *rest[: n - len(chosen)].tolist()]]


def _greedy(
    rows: Rows, pool: NDArray[np.int_], n: int, *, free: NDArray[np.bool_] | None = None
) -> list[int]:
    """`n` of the pool (of its `free` rows), each the one that explains most of what is still unknown."""
    terms, smooth = prior_parts(rows, rows.typical)
    left = covariance(terms, smooth, pool)
    noise = _NOISE**2
    chosen: list[int] = []
    free = np.ones(len(pool), dtype=bool) if free is None else free.copy()
    for _ in range(n):
        gain = (left**2).sum(axis=0) / (np.diag(left) + noise)
        best = int(np.where(free, gain, -1.0).argmax())
        free[best] = False
        chosen.append(int(pool[best]))
        column = left[:, best].copy()
        left -= np.outer(column, column) / (column[best] + noise)
    return chosen
