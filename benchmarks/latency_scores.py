"""How far predictions are from measurements: the figures every latency benchmark prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas import metrics as evaluation


@dataclass(frozen=True, slots=True)
class Scores:
    """One predictor on one set of networks. Percent are of the measured milliseconds."""

    networks: int
    mape_percent: float
    within_5_percent: float
    """The share, in percent, predicted within 5 % of the measurement."""
    within_10_percent: float
    spearman: float | None
    coverage_percent: float | None
    """The share, in percent, of measurements within the predicted interval; None without intervals."""
    half_width_percent: float | None
    """Half an interval, in percent of the prediction, on average; None without intervals."""
    worst: str
    """The network whose prediction is furthest off."""
    worst_percent: float
    """Signed: above 0 the prediction is too long."""

    def to_dict(self) -> dict[str, object]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)


COLUMNS = (
    "networks",
    "MAPE %",
    "within 5 %",
    "within 10 %",
    "Spearman",
    "in 90 % interval",
    "half-width %",
    "worst %",
    "worst network",
)
"""What `cells` gives, in its order."""


def score(
    labels: Sequence[str],
    measured_ms: Sequence[float],
    predicted_ms: Sequence[float],
    intervals_ms: Sequence[tuple[float, float]] | None = None,
) -> Scores:
    """The figures of predictions for networks, all sequences of the same length of at least 1."""
    measured, predicted = np.asarray(measured_ms, float), np.asarray(predicted_ms, float)
    errors = 100 * (predicted / measured - 1)
    worst = int(np.argmax(np.abs(errors)))
    coverage = half_width = None
    if intervals_ms is not None:
        low, high = np.asarray(intervals_ms, float).T
        coverage = evaluation.coverage_percent(measured, low, high)
        half_width = 100 * float(np.mean((high - low) / 2 / predicted))
    return Scores(
        networks=len(labels),
        mape_percent=evaluation.mape_percent(measured, predicted),
        within_5_percent=evaluation.within_percent(measured, predicted, 5),
        within_10_percent=evaluation.within_percent(measured, predicted, 10),
        spearman=evaluation.spearman(measured, predicted),
        coverage_percent=coverage,
        half_width_percent=half_width,
        worst=labels[worst],
        worst_percent=float(errors[worst]),
    )


def cells(scores: Scores) -> list[object]:
    """A row of a printed table, in the order of COLUMNS."""
    digits = {"spearman": 4, "mape_percent": 2, "half_width_percent": 2}
    row: list[object] = []
    for field in dataclasses.fields(Scores):
        value = getattr(scores, field.name)
        row.append(f"{value:.{digits.get(field.name, 1)}f}" if isinstance(value, float) else value)
    row[-1], row[-2] = row[-2], f"{scores.worst_percent:+.1f}"
    return row


def median_difference_percent(first: Sequence[float], second: Sequence[float]) -> float:
    """How much two measurements of the same things differ, in percent of the first, in the median."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    return 100 * float(np.median(np.abs(b / a - 1)))
