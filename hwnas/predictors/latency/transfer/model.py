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
from hwnas.predictors.latency.transfer.bases import Base, candidate_bases
from hwnas.predictors.latency.transfer.process import Process, fit_process, prior_parts
from hwnas.predictors.latency.transfer.rows import Rows, describe_rows
from hwnas.predictors.latency.transfer.samples import choose_samples
from hwnas.types import Floats

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Answers",
    "TransferModel",
    "blend_shares",
    "blended",
    "choose_samples",
    "fit_transfer",
]


# --- blend of several models, weighted by held-out likelihood --------------------------------


_SHARPNESS = 4.0
"""The weight of the mean log density; as with 1 / (squared error) ** 2 where errors are all that differs."""
_FEWEST = 4
"""Measured rows without which nothing is compared."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Log milliseconds of r rows by each base with a process over it, then by each base alone."""

    means: Floats
    """(2, b, r)"""
    variances: Floats
    """(2, b, r)"""


def blend_shares(left_out: Answers, logs: Floats) -> Floats:
    """How much each answer counts, (2, b), sum 1; from the measured rows `logs`, (N,), left out."""
    from scipy.stats import t as student

    if len(logs) < _FEWEST:
        bases = left_out.means.shape[1]
        return np.stack([np.full(bases, 1 / bases), np.zeros(bases)])
    deviations = np.sqrt(left_out.variances)
    density = student.logpdf((logs - left_out.means) / deviations, 5) - np.log(deviations)
    score = _SHARPNESS * density.mean(axis=2)
    weights = np.exp(score - score.max())
    return np.asarray(weights / weights.sum())


def blended(answers: Answers, shares: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation, (r,) each, of the mixture of the answers."""
    weights = shares[:, :, None]
    centre = (weights * answers.means).sum(axis=(0, 1))
    variance = (weights * (answers.variances + (answers.means - centre) ** 2)).sum(axis=(0, 1))
    return centre, np.sqrt(variance)


# --- transfer model --------------------------------------------------------------------------


_SURPRISING = 9.0
"""Squared deviations beyond which a measurement is taken for disturbed, and counts less."""
_DISTURBED, _FAR_OFF = 60.0, 0.12
"""A measurement is in doubt whose squared log error, predicted without itself, is so many times the median
one, and at least 0.12 (a third off)."""
_HELPS = 0.7
"""It is left out where that lowers the median squared error of the others to this."""
_FEWEST_BESIDE = 10
"""One measurement of ten may be wrong."""
_DOUBT, _EVIDENCE = 12.0, 10.0
"""Intervals are as wide as if 10 rows more had been left out, whose squared errors are 12 variances."""

_ENOUGH, _WIDER = 10, 0.2
"""With fewer measurements than 10 intervals are wider by this power of how many are lacking."""


@dataclass(frozen=True, slots=True)
class TransferModel:
    """Milliseconds of every row on the new device."""

    rows: Rows
    bases: tuple[Base, ...]
    process: Process
    spreads: Floats
    """(b,): mean squared error of each base alone, on rows that it was found without."""
    shares: Floats
    """(2, b): how much each base counts with the process over it, and alone; sum 1."""
    stretch: float
    """What deviations are multiplied with, from rows predicted without themselves."""
    error: float
    """Median squared log error of measured rows, each predicted without itself."""

    def predict(self, rows: Iterable[Hashable], *, level: float = 0.9) -> pd.DataFrame:
        """`value`, `low` and `high` in milliseconds, a line a row; intervals hold `level` of the rows."""
        import pandas as pd
        from scipy.stats import t as student

        if not 0 < level < 1:
            raise UsageError(f"level must be between 0 and 1, got {level}")
        wanted = rows if isinstance(rows, str | bytes) else list(rows)
        places = self.rows.positions(wanted)
        above, variances = self.process.predict(places)
        alone = np.stack([base.logs[places] for base in self.bases])
        answers = Answers(
            np.stack([alone + above, alone]),
            np.stack([variances, np.broadcast_to(self.spreads[:, None], variances.shape)]),
        )
        centre, deviation = blended(answers, self.shares)
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
    kept = np.arange(len(at))
    model, surprise = _fitted(rows, at, logs)
    for _ in range(len(at) // _FEWEST_BESIDE):
        worst = int(surprise.argmax())
        if surprise[worst] < max(_DISTURBED, _FAR_OFF / model.error):
            break
        kept = np.delete(kept, worst)
        without, surprise = _fitted(rows, at[kept], logs[kept])
        if without.error > _HELPS * model.error:
            break
        model = without
    return model


def _fitted(rows: Rows, at: NDArray[np.int_], logs: Floats) -> tuple[TransferModel, Floats]:
    """The model from measured rows, and how much each of them surprises the others, (N,)."""
    bases = candidate_bases(rows, at, logs)
    terms, smooth = prior_parts(rows, bases[0].logs)
    residuals = np.stack([logs - base.logs[at] for base in bases])
    without = np.stack([logs[:, None] - base.left_out for base in bases])
    alone = np.einsum("bii->bi", without)
    inflated = np.ones(len(at))
    for _ in range(2):
        process = fit_process(terms, smooth, at, residuals, without, inflated)
        left_out = _left_out(process, logs, alone, inflated)
        shares = blend_shares(left_out, logs)
        centre, deviation = blended(left_out, shares)
        surprise = ((logs - centre) / deviation) ** 2
        if len(at) < 5 or not (surprise > _SURPRISING).any():
            break
        inflated = np.maximum(inflated, surprise / _SURPRISING)
    squares = (logs - centre) ** 2
    typical = float(np.median(squares)) + 1e-12
    model = TransferModel(
        rows,
        tuple(bases),
        process,
        (alone**2 / inflated).mean(axis=1) + 1e-12,
        shares,
        float(np.sqrt((_DOUBT + surprise.sum()) / (_EVIDENCE + len(at))))
        * max(_ENOUGH / len(at), 1.0) ** _WIDER,
        typical,
    )
    return model, squares / typical


def _left_out(process: Process, logs: Floats, alone: Floats, inflated: Floats) -> Answers:
    """What each measured row is said to be without itself; `alone`, (b, N): errors of the bases alone."""
    above, deviation = process.left_out
    squares = alone**2 / inflated
    others = squares.sum(axis=1, keepdims=True) - squares
    spreads = inflated * (others + 1e-8) / max(len(logs) - 1, 1)
    return Answers(logs - np.stack([above, alone]), np.stack([deviation**2, spreads]))


def _measured(rows: Rows, measured: pd.Series[float]) -> tuple[NDArray[np.int_], Floats]:
    """Positions and log milliseconds of what was measured."""
    import pandas as pd

    if not isinstance(measured, pd.Series):
        raise UsageError(
            "measured must be a pandas Series, label -> milliseconds, got "
            f"{type(measured).__name__}: pandas.Series({{'label': ms}}) makes one"
        )
    text = next((value for value in measured if isinstance(value, str | bytes)), None)
    if text is not None:
        raise UsageError(f"measured must be milliseconds as numbers, got {text!r}")
    seen: dict[int, list[float]] = {}
    for label, value in zip(measured.index.to_list(), measured.to_numpy(dtype=float), strict=True):
        if np.isnan(value):
            continue
        if not 0 < value < np.inf:
            raise UsageError(f"measured must be positive milliseconds, got {value} for {label!r}")
        seen.setdefault(int(rows.positions([label])[0]), []).append(float(value))
    if not seen:
        raise UsageError("measured has no rows: measure some networks of choose_samples")
    return np.array(list(seen), dtype=int), np.log([np.median(values) for values in seen.values()])
