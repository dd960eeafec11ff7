"""A new device from a few measurements and from devices already known.

    rows = choose_samples(features, sources, 20, seed=0)
    model = fit_transfer(features, sources, measured)     # measured: row -> ms on the new device
    model.predict(features.index)                         # value, low, high in ms

Works on whatever latencies there are: networks or ops, many known devices or none, gaps included. All
latencies are modelled in logs, so errors are relative ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError
from hwnas.predictors.latency.transfer_parts import prior_mean, prior_parts
from hwnas.predictors.latency.transfer_process import Process, fit_process
from hwnas.predictors.latency.transfer_rows import Rows, describe_rows
from hwnas.predictors.latency.transfer_samples import choose_samples

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TransferModel", "choose_samples", "fit_transfer"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TransferModel:
    """Milliseconds of every row on the new device."""

    rows: Rows
    base: Floats
    """(n,): log milliseconds of the prior mean."""
    process: Process
    stretch: float
    """What deviations are multiplied with, from rows predicted without themselves."""

    def predict(self, rows: Iterable[Hashable], *, level: float = 0.9) -> pd.DataFrame:
        """`value`, `low` and `high` in milliseconds, a line a row; intervals hold `level` of the rows."""
        import pandas as pd
        from scipy.stats import t as student

        if not 0 < level < 1:
            raise UsageError(f"level must be between 0 and 1, got {level}")
        wanted = list(rows)
        places = self.rows.positions(wanted)
        mean, deviation = self.process.predict(places)
        centre = self.base[places] + mean
        reach = student.ppf(0.5 + level / 2, df=4 + len(self.process.at)) * self.stretch * deviation
        return pd.DataFrame(
            {"value": np.exp(centre), "low": np.exp(centre - reach), "high": np.exp(centre + reach)},
            index=pd.Index(wanted, tupleize_cols=False, dtype=object if not wanted else None),
        )


def fit_transfer(features: pd.DataFrame, sources: pd.DataFrame, measured: pd.Series[float]) -> TransferModel:
    """A model of the device on which `measured` (row -> milliseconds) was measured.

    `features` (numeric columns) and `sources` (a column a known device, milliseconds, gaps allowed, possibly
    no column) have the same rows. A row measured twice counts with its median; NaN is not measured.
    Raises UsageError where rows differ, a measured row is unknown, or nothing positive was measured.
    """
    rows = describe_rows(features, sources)
    at, logs = _measured(rows, measured)
    base = prior_mean(rows, at, logs)
    terms, smooth = prior_parts(rows, base)
    residuals = logs - base[at]
    offset = float(np.median(residuals))
    base, residuals = base + offset, residuals - offset
    process = fit_process(terms, smooth, at, residuals, np.ones(len(at)))
    mean, deviation = process.left_out
    surprise = ((residuals - mean) / deviation) ** 2
    inflated = np.maximum(surprise / 9.0, 1.0)
    if (inflated > 1).any() and len(at) >= 5:
        process = fit_process(terms, smooth, at, residuals, inflated)
        mean, deviation = process.left_out
        surprise = ((residuals - mean) / deviation) ** 2
    stretch = float(np.sqrt((10 + surprise.sum()) / (10 + len(at))))
    return TransferModel(rows, base, process, stretch)


def _measured(rows: Rows, measured: pd.Series[float]) -> tuple[NDArray[np.int_], Floats]:
    """Positions and log milliseconds of what was measured."""
    seen: dict[int, list[float]] = {}
    for label, value in zip(measured.index.to_list(), measured.to_numpy(dtype=float), strict=True):
        if np.isnan(value):
            continue
        if not 0 < value < np.inf:
            raise UsageError(f"measured must be positive milliseconds, got {value} for {label!r}")
        seen.setdefault(int(rows.positions([label])[0]), []).append(float(value))
    if not seen:
        raise UsageError("measured must hold at least one row, got none: measure some of choose_samples")
    return np.array(list(seen), dtype=int), np.log([np.median(values) for values in seen.values()])
