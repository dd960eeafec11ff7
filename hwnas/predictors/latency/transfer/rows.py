"""What transfer knows of each row before anything is measured: numbers from features and known devices.

Everything is in logs where a column is positive and wide, standardised, without constant columns and
without gaps; the labels are kept beside. Known devices become two things: `typical`, the mean of their
logs, and `spread`, coordinates of how they differ among themselves, scaled so that a further device of the
same kind has weights of about 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError
from hwnas.types import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "describe_rows"]


_MOST_FACTORS = 12
_MOST_CODES = 12
_MOST_KINDS = 2
_MOST_ROWS_TO_LEARN_FROM = 2000


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a transfer, as arrays of n rows."""

    labels: tuple[Hashable, ...]
    places: dict[Hashable, int]
    """Label -> position of its first row."""
    typical: Floats
    """(n,): mean log milliseconds of the known devices; zeros where no device is known."""
    logs: Floats
    """(n, devices): log milliseconds of the known devices, gaps filled."""
    slope: Floats
    """(n,): `typical`, standardised."""
    spread: Floats
    """(n, k): how known devices differ; `spread @ spread.T` is the prior covariance of a new one."""
    mixture: Floats
    """(n, l): the same for milliseconds in parts of typical ones: a device may be a sum of others."""
    shape: Floats
    """(n, p): standardised features."""
    codes: Floats
    """(n, c): standardised indicators of features that are names, and how often each name comes."""
    costs: Floats
    """(n, q): non-negative features in their own units, each at most 1: parts of a sum of costs."""
    kinds: Floats
    """(n, u): yes-or-no features, such as int8 or not; none where there are more than two."""
    devices: int
    """How many known devices there are."""

    def positions(self, labels: Iterable[Hashable]) -> NDArray[np.int_]:
        """Where labels are; UsageError names those that are unknown, and a text that stands for a list."""
        if isinstance(labels, str | bytes):
            raise UsageError(f"rows must be a list of labels, got the text {labels!r}: give [{labels!r}]")
        wanted = list(labels)
        unknown = [label for label in wanted if label not in self.places]
        if unknown:
            raise UsageError(
                f"every row must be in features, got {unknown[0]!r}"
                + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else "")
            )
        return np.array([self.places[label] for label in wanted], dtype=int)


def describe_rows(features: pd.DataFrame, sources: pd.DataFrame) -> Rows:
    """The rows of `features` (numeric columns) and of `sources` (milliseconds of known devices).

    Rows belong together by label; rows that `sources` lacks are gaps in it, as is all that is not a positive
    finite number of milliseconds. Where a label comes twice, its first row counts. Raises UsageError
    where there is no row, where labels come twice and are not the same in both, where one is no
    DataFrame, and where a column has text.
    """
    check_frame("features", features)
    check_frame("sources", sources)
    labels = tuple(features.index.to_list())
    if not labels:
        raise UsageError("features must have at least one row, got none")
    if sources.shape[1] and tuple(sources.index.to_list()) != labels:
        if not sources.index.is_unique:
            raise UsageError(
                "sources must have each row once, or exactly the rows of features, got "
                f"{int(sources.index.duplicated().sum())} labels again"
            )
        sources = sources.reindex(features.index)
    places: dict[Hashable, int] = {}
    for position, label in enumerate(labels):
        places.setdefault(label, position)
    raw = _telling(_numbers(features))
    shape = _standard(_categories_and_logs(raw))
    logs = _logs(_numbers(sources)) if sources.shape[1] else np.zeros((len(labels), 0))
    filled = _without_gaps(logs, shape)
    if filled.shape[1]:
        typical = filled.mean(axis=1)
        slope = _standard(typical[:, None])
        slope = slope[:, 0] if slope.shape[1] else np.zeros(len(labels))
        odd = filled - typical[:, None]
        spread = _factors(odd)
        mixture = _factors(np.exp(np.clip(odd - odd.mean(axis=0), -3, 3)))
    else:
        typical, slope = np.zeros(len(labels)), np.zeros(len(labels))
        spread = mixture = np.zeros((len(labels), 0))
    named, counts = _codes(raw)
    # A name's count weighs as much as the name in all of its places.
    weight = np.sqrt(named.shape[1] / max(counts.shape[1], 1))
    codes = np.column_stack([_standard(named), weight * _standard(counts)])
    costs = _costs(np.column_stack([raw, counts]))
    kinds = _kinds(raw)
    return Rows(
        labels, places, typical, filled, slope, spread, mixture, shape, codes, costs, kinds, filled.shape[1]
    )


def check_frame(name: str, frame: object) -> None:
    """Raises UsageError for what is no DataFrame, and for columns with text, which would say nothing."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise UsageError(
            f"{name} must be a pandas DataFrame, a row a network, got {type(frame).__name__}: "
            f"pandas.DataFrame({name}, index=LABELS) makes one"
        )
    for column in range(frame.shape[1]):
        values = frame.iloc[:, column]
        if values.dtype.kind in "biufc":
            continue
        text = next((value for value in values if isinstance(value, str | bytes)), None)
        if text is not None:
            raise UsageError(
                f"{name} must hold numbers, got {text!r} in column {frame.columns[column]!r}: make numbers "
                "of it, or a column of 0 and 1 for each word"
            )


def _numbers(frame: pd.DataFrame) -> Floats:
    """The columns as floats, NaN for what is no finite number; columns without any number left out."""
    import pandas as pd

    columns = [
        pd.to_numeric(frame.iloc[:, at], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        for at in range(frame.shape[1])
    ]
    table = np.column_stack(columns) if columns else np.zeros((len(frame), 0))
    table = np.where(np.isfinite(table), table, np.nan)
    return np.asarray(table[:, ~np.isnan(table).all(axis=0)])


def _telling(table: Floats) -> Floats:
    """Columns that are not the same everywhere, each once."""
    seen: dict[bytes, Floats] = {}
    for column in table.T:
        if np.isnan(column).any() or np.ptp(column) > 0:
            seen.setdefault(column.tobytes(), column)
    return np.column_stack(list(seen.values())) if seen else np.zeros((len(table), 0))


def _categories_and_logs(table: Floats) -> Floats:
    """Columns in logs where that is their natural scale, and a column for each pattern of gaps."""
    columns: list[Floats] = []
    gaps: dict[bytes, Floats] = {}
    for column in table.T:
        known = ~np.isnan(column)
        values = column[known]
        if not known.all():
            gaps.setdefault(known.tobytes(), known.astype(float))
        positive = values[values > 0]
        if len(positive) and values.min() >= 0 and values.max() / positive.min() > 4:
            values = np.log(values) if values.min() > 0 else np.log1p(values / np.median(positive))
        filled = np.full(len(column), np.median(values))
        filled[known] = values
        columns.append(filled)
    columns.extend(gaps.values())
    return np.column_stack(columns) if columns else np.zeros((len(table), 0))


def _codes(table: Floats) -> tuple[Floats, Floats]:
    """Where several columns share one small set of whole numbers, these are names (of ops, of choices).

    A column for each name in each place, (n, c), and how often a row has each name, (n, a).
    """
    alphabets: dict[tuple[float, ...], list[Floats]] = {}
    for column in table.T:
        codes = np.unique(column)
        if 3 <= len(codes) <= _MOST_CODES and np.array_equal(codes, np.round(codes)):
            alphabets.setdefault(tuple(codes.tolist()), []).append(column)
    places: list[Floats] = []
    counts: list[Floats] = []
    for alphabet, columns in alphabets.items():
        if len(columns) >= 3:
            for code in alphabet:
                named = np.column_stack(columns) == code
                places.extend(named.astype(float).T)
                counts.append(named.sum(axis=1).astype(float))
    if not places:
        return np.zeros((len(table), 0)), np.zeros((len(table), 0))
    return np.column_stack(places), np.column_stack(counts)


def _kinds(table: Floats) -> Floats:
    """Columns of 0 and 1, (n, k): kinds of rows, such as int8 or not; none where there are many of them."""
    kept = [column for column in table.T if np.isin(column, (0.0, 1.0)).all() and np.ptp(column) > 0]
    return np.column_stack(kept) if 0 < len(kept) <= _MOST_KINDS else np.zeros((len(table), 0))


def _standard(table: Floats) -> Floats:
    """Columns of mean 0 and deviation 1, the constant ones and repeated ones left out."""
    centred = table - table.mean(axis=0)
    deviation = centred.std(axis=0)
    scale = np.abs(table).max(axis=0, initial=0.0)
    kept = deviation > 1e-9 * np.maximum(scale, 1e-300)
    standard = centred[:, kept] / deviation[kept]
    _, first = np.unique(np.round(standard, 9), axis=1, return_index=True)
    return np.asarray(standard[:, np.sort(first)])


def _logs(milliseconds: Floats) -> Floats:
    """Logs, NaN where not positive; devices known on fewer than two rows left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(milliseconds > 0, np.log(milliseconds), np.nan)
    known = (~np.isnan(logs)).sum(axis=0)
    return np.asarray(logs[:, known >= min(2, len(logs))])


def _without_gaps(logs: Floats, shape: Floats) -> Floats:
    """Gaps filled: first by row and device means, then each device by the others and the features."""
    gaps = np.isnan(logs)
    if not gaps.any():
        return logs
    rows, columns = np.zeros(len(logs)), np.zeros(logs.shape[1])
    known = (~gaps).astype(float)
    zeroed = np.where(gaps, 0.0, logs)
    for _ in range(20):
        columns = ((zeroed - rows[:, None]) * known).sum(axis=0) / known.sum(axis=0)
        per_row = known.sum(axis=1)
        rows = ((zeroed - columns) * known).sum(axis=1) / np.maximum(per_row, 1)
    empty = known.sum(axis=1) == 0
    if empty.any() and not empty.all():
        rows[empty] = _ridge(shape[~empty], rows[~empty], shape[empty])
    filled = np.where(gaps, rows[:, None] + columns, logs)
    for _ in range(3):
        previous = filled.copy()
        for at in np.flatnonzero(gaps.any(axis=0)):
            others = np.column_stack([np.delete(previous, at, axis=1), shape])
            seen = ~gaps[:, at]
            base = rows + columns[at]
            filled[~seen, at] = base[~seen] + _ridge(
                others[seen], logs[seen, at] - base[seen], others[~seen], strength=3.0
            )
    return filled


def _ridge(x: Floats, y: Floats, at: Floats, *, strength: float = 1.0) -> Floats:
    """Ridge regression on standardised columns, learnt from at most 2,000 rows."""
    if x.shape[1] == 0 or len(x) < 3:
        return np.full(len(at), y.mean())
    if len(x) > _MOST_ROWS_TO_LEARN_FROM:
        some = np.linspace(0, len(x) - 1, _MOST_ROWS_TO_LEARN_FROM).astype(int)
        x, y = x[some], y[some]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, np.inf)
    z, offset = (x - centre) / scale, y.mean()
    weights = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - offset))
    return np.asarray(offset + np.clip((at - centre) / scale, -4, 4) @ weights)


def _factors(odd: Floats) -> Floats:
    """How devices differ beyond a constant each, (n, k), strongest first."""
    odd = (odd - odd.mean(axis=0)) / np.sqrt(odd.shape[1])
    values, vectors = np.linalg.eigh(odd.T @ odd)
    strongest = [at for at in np.argsort(values)[::-1] if values[at] > 1e-9 * len(odd)][:_MOST_FACTORS]
    if not strongest:
        return np.zeros((len(odd), 0))
    # A direction's sign is free: the largest weight is made positive, so that it is always the same.
    signs = np.array([np.sign(vectors[np.abs(vectors[:, at]).argmax(), at]) for at in strongest])
    return np.asarray(odd @ (vectors[:, strongest] * signs))


def _costs(table: Floats) -> Floats:
    """Columns that a latency could be a weighted sum of."""
    table = np.where(np.isnan(table), 0.0, table)
    largest = table.max(axis=0, initial=0.0)
    kept = (table.min(axis=0, initial=0.0) >= 0) & (largest > 0)
    return np.asarray(table[:, kept] / largest[kept])
