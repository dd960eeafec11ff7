"""How good a predictor is: one report for latency, accuracy, energy, whatever it predicts.

Size of the errors (MAPE, share within 5 and 10 %), order (Kendall, Spearman, what choosing by the
prediction costs), and honesty (how often the truth lies in the interval) - over all networks and
within bins, because a predictor that tells small networks from large ones may still be useless among
networks of one size. Numpy alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.types import Floats

__all__ = [
    "Calibration",
    "Report",
    "Scores",
    "best_possible_tau",
    "coverage_percent",
    "evaluate",
    "kendall_tau",
    "mape_percent",
    "noise_std",
    "spearman",
    "top_k_regret",
    "within_percent",
]


CALIBRATION_LEVELS = ((0.5, 0.674490), (0.8, 1.281552), (0.9, 1.644854), (0.95, 1.959964))
"""Levels of the normal distribution's central interval, and how many deviations each reaches."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often the truth lies within the interval that a level promises."""

    level: float
    """The promise: 0.9 for the interval that should hold 90 %."""
    observed: float
    """The share of networks whose true value lies within."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of one set of networks; None where there are too few, or nothing to tell from."""

    label: str
    count: int
    mape_percent: float | None
    """Mean absolute error, in percent of the true value; None when one of those is 0."""
    mean_absolute_error: float
    """In the unit of the values."""
    within_5_percent: float | None
    """The share, in percent, that is predicted within 5 % of the true value."""
    within_10_percent: float | None
    kendall_tau: float | None
    """Tau-b: 1 the same order, -1 the reverse, 0 none; ties count for neither."""
    spearman: float | None
    top_k_regret: float | None
    """How much worse the best of the k networks chosen by prediction is than the best of all, in the
    unit of the values; 0 is a perfect choice."""
    interval_coverage_percent: float | None
    """The share, in percent, of true values within `low` .. `high`; None without intervals."""
    calibration: tuple[Calibration, ...]
    """From `std`, taken as normal; empty when a std is 0."""


@dataclass(frozen=True, slots=True)
class Report:
    """A predictor's figures over all networks and within each bin."""

    unit: str
    k: int
    overall: Scores
    bins: tuple[Scores, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return asdict(self)


def evaluate(
    actual: ArrayLike,
    estimates: Sequence[Estimate | float],
    *,
    bins: int | Sequence[float] | Sequence[str] = 4,
    k: int = 10,
    higher_is_better: bool = False,
) -> Report:
    """The report on predictions of `actual`, both of length n.

    `bins`: how many of equal count, by the true value; or rising inner edges (a value on an edge goes
    above it); or n labels, as the networks' families. `k` and `higher_is_better` say what choosing
    means: the k with the lowest predictions by default, as for latency.

    Raises UsageError when there is nothing to compare, lengths differ or a value is not finite.
    """
    truth = np.asarray(actual, dtype=np.float64)
    given = [item if isinstance(item, Estimate) else Estimate(float(item)) for item in estimates]
    if truth.ndim != 1 or len(truth) != len(given) or not given:
        raise UsageError(
            f"there must be one estimate for each true value, got {len(given)} estimates for "
            f"{truth.shape} true values"
        )
    if not np.isfinite(truth).all():
        raise UsageError(f"true values must be finite, got {truth[~np.isfinite(truth)][0]}")
    if k < 1:
        raise UsageError(f"k must be at least 1, got {k}")
    names, places = _bins(truth, bins)

    def scores(label: str, chosen: NDArray[np.intp]) -> Scores:
        return _scores(label, truth[chosen], [given[place] for place in chosen], k, higher_is_better)

    return Report(
        unit=given[0].unit,
        k=k,
        overall=scores("all", np.arange(len(truth))),
        bins=tuple(
            scores(name, np.flatnonzero(places == number))
            for number, name in enumerate(names)
            if (places == number).any()
        ),
    )


def mape_percent(actual: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error, in percent of the true value."""
    return 100 * float(np.mean(_relative_errors(actual, predicted)))


def within_percent(actual: ArrayLike, predicted: ArrayLike, percent: float) -> float:
    """The share, in percent, of predictions at most so many percent off the true value."""
    # A hair's breadth, so that 105 is within 5 % of 100 in floating point too.
    return 100 * float(np.mean(_relative_errors(actual, predicted) <= percent / 100 + 1e-12))


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float | None:
    """Kendall's tau-b; None below two values or when all of one side are equal. Time is n squared."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    agreement = untied_a = untied_b = 0.0
    for place in range(len(a) - 1):
        in_a, in_b = np.sign(a[place + 1 :] - a[place]), np.sign(b[place + 1 :] - b[place])
        agreement += float(in_a @ in_b)
        untied_a += float(in_a @ in_a)
        untied_b += float(in_b @ in_b)
    if not untied_a or not untied_b:
        return None
    return agreement / math.sqrt(untied_a * untied_b)


def spearman(first: ArrayLike, second: ArrayLike) -> float | None:
    """Spearman's rank correlation, ties sharing their mean rank; None as for `kendall_tau`."""
    a, b = _ranks(first), _ranks(second)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def top_k_regret(actual: ArrayLike, predicted: ArrayLike, k: int, *, higher_is_better: bool = False) -> float:
    """How much worse the best of the k chosen by prediction is than the best of all; at least 0.

    Equal predictions are chosen in the order given.
    """
    sign = -1.0 if higher_is_better else 1.0
    cost = sign * np.asarray(actual, dtype=np.float64)
    chosen = np.argsort(sign * np.asarray(predicted, dtype=np.float64), kind="stable")[:k]
    return float(cost[chosen].min() - cost.min())


def coverage_percent(actual: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """The share, in percent, of true values from `low` to `high`, ends included."""
    truth = np.asarray(actual, dtype=np.float64)
    return 100 * float(np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high))))


def noise_std(repeats: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation of one measurement, pooled over what was measured several times.

    `repeats` holds the measurements of each network, a list each; None when none has two.
    """
    squares = sum(float(np.sum(np.square(np.subtract(one, np.mean(one))))) for one in repeats if len(one) > 1)
    freedom = sum(len(one) - 1 for one in repeats if len(one) > 1)
    return math.sqrt(squares / freedom) if freedom else None


def best_possible_tau(actual: ArrayLike, std: ArrayLike) -> float | None:
    """Kendall's tau that an estimator may expect which knows every true value, on noisy measurements.

    `actual`: what was measured, (n,). `std`: the standard deviation of each, (n,) or one for all, taken
    as normal. The measurements are drawn towards their mean until their variance is what is left
    without the noise; then two networks whose true values differ by d are in the right order with
    probability Phi(d / sqrt(std_i^2 + std_j^2)). None below two values, or when noise explains all.
    """
    measured = np.asarray(actual, dtype=np.float64)
    stds = np.broadcast_to(np.asarray(std, dtype=np.float64), measured.shape)
    if len(measured) < 2:
        return None
    variance = float(np.var(measured, ddof=1))
    signal = variance - float(np.mean(np.square(stds)))
    if signal <= 0:
        return None
    truth = measured.mean() + (measured - measured.mean()) * math.sqrt(signal / variance)
    agreements = []
    for one, other in itertools.combinations(range(len(truth)), 2):
        apart, noise = abs(truth[one] - truth[other]), math.hypot(stds[one], stds[other])
        agreements.append(math.erf(apart / (noise * math.sqrt(2))) if noise else float(apart > 0))
    return sum(agreements) / len(agreements)


def _scores(label: str, truth: Floats, given: Sequence[Estimate], k: int, higher_is_better: bool) -> Scores:
    predicted = np.array([estimate.value for estimate in given])
    deviations = np.array([estimate.std for estimate in given])
    relative = bool((truth != 0).all())
    bounded = [(item.low, item.high) for item in given if item.low is not None and item.high is not None]
    return Scores(
        label=label,
        count=len(truth),
        mape_percent=mape_percent(truth, predicted) if relative else None,
        mean_absolute_error=float(np.mean(np.abs(predicted - truth))),
        within_5_percent=within_percent(truth, predicted, 5) if relative else None,
        within_10_percent=within_percent(truth, predicted, 10) if relative else None,
        kendall_tau=kendall_tau(truth, predicted),
        spearman=spearman(truth, predicted),
        top_k_regret=(
            top_k_regret(truth, predicted, k, higher_is_better=higher_is_better) if len(truth) > k else None
        ),
        interval_coverage_percent=(
            coverage_percent(truth, *zip(*bounded, strict=True)) if len(bounded) == len(given) else None
        ),
        calibration=tuple(
            Calibration(level, float(np.mean(np.abs(predicted - truth) <= reach * deviations)))
            for level, reach in CALIBRATION_LEVELS
            if (deviations > 0).all()
        ),
    )


def _bins(truth: Floats, bins: int | Sequence[float] | Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    """The bins' names, and the number of each network's bin."""
    if isinstance(bins, int):
        if bins < 1:
            raise UsageError(f"there must be at least one bin, got {bins}")
        edges = np.quantile(truth, np.linspace(0, 1, bins + 1)[1:-1])
    elif len(bins) and all(isinstance(label, str) for label in bins):
        labels = [str(label) for label in bins]
        if len(labels) != len(truth):
            raise UsageError(f"there must be a label for each value, got {len(labels)} for {len(truth)}")
        names = list(dict.fromkeys(labels))
        return names, np.array([names.index(label) for label in labels], dtype=np.intp)
    else:
        edges = np.asarray(bins, dtype=np.float64)
        if (np.diff(edges) <= 0).any():
            raise UsageError(f"edges of bins must rise, got {edges.tolist()}")
    if not len(edges):
        return ["all"], np.zeros(len(truth), dtype=np.intp)
    shown = [f"{edge:.4g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    return [f"below {shown[0]}", *inner, f"{shown[-1]} and up"], np.searchsorted(edges, truth, side="right")


def _relative_errors(actual: ArrayLike, predicted: ArrayLike) -> Floats:
    truth = np.asarray(actual, dtype=np.float64)
    errors: Floats = np.abs(np.asarray(predicted, dtype=np.float64) - truth) / np.abs(truth)
    return errors


def _ranks(values: ArrayLike) -> Floats:
    """Ranks from 0; equal values share their mean rank."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = ((ends - counts + ends - 1) / 2.0)[places]
    return ranks
