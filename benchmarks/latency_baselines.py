"""What a latency table must beat: simpler predictors, fitted on the table's own building networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.features import op_features
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import KINDS, lower

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """slope * x + offset_ms, neither negative."""

    slope: float
    offset_ms: float

    def predict_ms(self, x: ArrayLike) -> Floats:
        return self.slope * np.asarray(x, float) + self.offset_ms


def fit_line(x: ArrayLike, measured_ms: ArrayLike) -> Line:
    """The line with the least squared relative errors."""
    from scipy.optimize import nnls

    values, measured = np.asarray(x, float), np.asarray(measured_ms, float)
    unit = values.mean()
    design = np.column_stack([values / unit, np.ones_like(values)]) / measured[:, None]
    slope, offset = nnls(design, np.ones_like(measured))[0]
    return Line(float(slope / unit), float(offset))


def boosted_ms(known: Floats, known_ms: ArrayLike, asked: Floats) -> Floats:
    """Gradient boosting (scikit-learn) of log ms on features, shapes (n, f), (n,) and (m, f) -> (m,)."""
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(n_estimators=300, learning_rate=0.05, subsample=0.7, random_state=0)
    model.fit(known, np.log(np.asarray(known_ms, float)))
    return np.asarray(np.exp(model.predict(asked)))


def network_features(arch: ArchSpec) -> Floats:
    """What gradient boosting sees: log of the six summed op features, then how many ops of each kind."""
    ops = lower(arch)
    counts = [sum(op.kind == kind for op in ops) for kind in KINDS]
    return np.concatenate([np.log1p(np.sum([op_features(op) for op in ops], axis=0)), counts])


def macs(arch: ArchSpec) -> float:
    return float(sum(op.macs for op in lower(arch)))


def row_sum_ms(arch: ArchSpec, table: LatencyTable) -> float:
    """The table's rows of the network's ops, just added up."""
    return sum(table.rows[op.key].ms for op in lower(arch))


def baselines_ms(
    table: LatencyTable, building: Sequence[tuple[ArchSpec, float]], asked: Sequence[ArchSpec]
) -> Mapping[str, Floats]:
    """What each baseline says of the networks asked for: name -> milliseconds, shape (asked,).

    `building` holds whole networks that the table was built from, with their measured milliseconds.
    """
    archs, known_ms = [arch for arch, _ in building], [ms for _, ms in building]
    known_sums, asked_sums = ([row_sum_ms(arch, table) for arch in group] for group in (archs, asked))
    known_macs, asked_macs = ([macs(arch) for arch in group] for group in (archs, asked))
    known_features, asked_features = (
        np.array([network_features(arch) for arch in group]) for group in (archs, asked)
    )
    return {
        "MACs regression": fit_line(known_macs, known_ms).predict_ms(asked_macs),
        "plain sum of rows": np.array(asked_sums),
        "sum, slope and offset": fit_line(known_sums, known_ms).predict_ms(asked_sums),
        "gradient boosting on features": boosted_ms(known_features, known_ms, asked_features),
    }
