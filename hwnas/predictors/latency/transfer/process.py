"""A Gaussian process over rows, averaged over its settings by how well each explains what was measured.

The log milliseconds of a new device are a base (see transfer_bases.py) plus a sum of

    constant + slope * typical + weights @ how known devices differ + weights @ features
    + weights @ (cost features / typical milliseconds) + a smooth function of features and devices + noise

each with a normal prior; how wide each prior is, how smooth the function and how much each of its inputs
counts are the settings. They are not optimised - a handful of measurements would be overfitted - but drawn,
weighted by marginal likelihood, and drawn again around the best (population Monte Carlo, two rounds). The
draws are the same every time: a Sobol sequence, and for the inputs a generator with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.gaussian_process import evidence, matern32, squared_distances
from hwnas.predictors.latency.transfer.rows import Rows
from hwnas.types import Floats

__all__ = [
    "Process",
    "Smooth",
    "Term",
    "covariance",
    "fit_process",
    "prior_parts",
]


NOISE = (0.003, 0.25)
"""Range of the relative measurement error's deviation."""
REACH = (0.25, 6.0)
"""Range of the smooth function's reach, where its inputs are weighted to a deviation of 1 in all."""


@dataclass(frozen=True, slots=True)
class Term:
    """A linear part: weights on these coordinates, each drawn from a normal of the same width."""

    coordinates: Floats
    """(n, k), for all rows."""
    widths: tuple[float, float]
    """Between what the weights' deviation may lie."""
    middle: float
    """The deviation that a choice of rows reckons with, before anything is measured."""


@dataclass(frozen=True, slots=True)
class Smooth:
    """What the smooth part may see. How much each column counts is a setting, too."""

    coordinates: Floats
    """(n, k), standardised, for all rows."""
    groups: NDArray[np.int_]
    """(k,): 0 for features, 1 for known devices; a draw may leave a group out."""
    widths: tuple[float, float]
    middle: float


@dataclass(frozen=True, slots=True)
class Process:
    """The average of fitted processes, over each of b bases."""

    terms: tuple[Term, ...]
    smooth: Smooth
    at: NDArray[np.int_]
    settings: Floats
    """(m, t + 3) widths of the terms, of the smooth part, its reach, the noise."""
    relevance: Floats
    """(m, k): what the columns that the smooth part sees are multiplied with."""
    weights: Floats
    """(m, b) how much each counts, sum 1 for each base."""
    alphas: Floats
    """(m, N, b)"""
    inverses: Floats
    """(m, N, N)"""
    left_out: tuple[Floats, Floats]
    """What each measured row is above its prediction without it, and its deviation, (b, N) each."""

    def predict(self, rows: NDArray[np.int_]) -> tuple[Floats, Floats]:
        """Mean above each base, and variance (noise included), at rows, (b, r) each."""
        mean = np.empty((self.weights.shape[1], len(rows)))
        variance = np.empty_like(mean)
        for start in range(0, len(rows), 4096):
            part = slice(start, start + 4096)
            mean[:, part], variance[:, part] = self._predict(rows[part])
        return mean, variance

    def _predict(self, rows: NDArray[np.int_]) -> tuple[Floats, Floats]:
        linear = [term.coordinates[rows] @ term.coordinates[self.at].T for term in self.terms]
        own = [(term.coordinates[rows] ** 2).sum(axis=1) for term in self.terms]
        here, there = self.smooth.coordinates[rows], self.smooth.coordinates[self.at]
        shape = (self.weights.shape[1], len(rows))
        means, variances, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        count = len(self.terms)
        for setting, relevance, weight, alpha, inverse in zip(
            self.settings, self.relevance, self.weights, self.alphas, self.inverses, strict=True
        ):
            cross = np.zeros((len(rows), len(self.at)))
            variance = np.zeros(len(rows))
            for width, part, square in zip(setting[:count], linear, own, strict=True):
                cross += width**2 * part
                variance += width**2 * square
            if here.shape[1]:
                cross += setting[count] ** 2 * matern32(
                    np.sqrt(squared_distances(here * relevance, there * relevance))
                )
                variance += setting[count] ** 2
            mean = (cross @ alpha).T
            left = variance - ((cross @ inverse) * cross).sum(axis=1)
            means += weight[:, None] * mean
            squares += weight[:, None] * mean**2
            variances += weight[:, None] * (np.maximum(left, 0.0) + setting[-1] ** 2)
        return means, np.maximum(variances + squares - means**2, 1e-12)


def fit_process(
    terms: Sequence[Term],
    smooth: Smooth,
    at: NDArray[np.int_],
    residuals: Floats,
    without: Floats,
    noise_weights: Floats,
    *,
    draws: int = 384,
) -> Process:
    """Fits on measured rows `at`, (N,): log milliseconds above each base, (b, N).

    `without`, (b, N, N): [., j, i] is the residual of row j above a base that was found without row i.
    `noise_weights`, (N,): by how much each row's noise variance exceeds the common one.
    """
    from scipy.stats import qmc

    # The cost grows with N^3: fewer draws where many measurements determine the settings anyway.
    count = len(terms)
    draws = max(min(draws, int(6e6 / max(len(at), 1) ** 2.5)), 24)
    lows = np.log([t.widths[0] for t in terms] + [smooth.widths[0], REACH[0], NOISE[0]])
    highs = np.log([t.widths[1] for t in terms] + [smooth.widths[1], REACH[1], NOISE[1]])
    linear = np.array([t.coordinates[at] @ t.coordinates[at].T for t in terms])
    seen = smooth.coordinates[at]
    gaps = (seen[:, None, :] - seen[None, :, :]) ** 2
    sobol = qmc.Sobol(len(lows) + 1, scramble=False)
    unit = sobol.random(1 << (2 * draws).bit_length())[1:]
    rng = np.random.default_rng(0)
    settings, relevance = np.zeros((0, len(lows))), np.zeros((0, seen.shape[1]))
    logs = np.zeros((0, len(residuals)))
    solved: list[tuple[Floats, Floats]] = []
    for step in range(2):
        new = unit[step * draws : (step + 1) * draws]
        if step == 0:
            fresh = lows + new[:, :-1] * (highs - lows)
            fresh_relevance = _relevance(smooth.groups, new[:, -1], rng)
            density = np.zeros(draws)
        else:
            total = np.logaddexp.reduce(logs, axis=1)
            fresh, fresh_relevance, density = _around(settings, relevance, total, new, lows, highs)
        covariances = np.einsum("mt,tij->mij", np.exp(2 * fresh[:, :count]), linear)
        if seen.shape[1]:
            scaled = fresh_relevance / np.exp(fresh[:, count + 1])[:, None]
            distances = np.sqrt(np.tensordot(scaled**2, gaps, axes=(1, 2)))
            covariances += np.exp(2 * fresh[:, count])[:, None, None] * matern32(distances)
        covariances += np.exp(2 * fresh[:, -1])[:, None, None] * np.diag(noise_weights)
        likelihoods, alphas, inverses = _solve(covariances, residuals)
        settings, relevance = np.vstack([settings, fresh]), np.vstack([relevance, fresh_relevance])
        logs = np.vstack([logs, likelihoods - density[:, None]])
        solved.append((alphas, inverses))
    weights = np.exp(logs - logs.max(axis=0))
    weights /= weights.sum(axis=0)
    alphas = np.concatenate([pair[0] for pair in solved])
    inverses = np.concatenate([pair[1] for pair in solved])
    # Those that carry next to nothing are left out; so is all beyond the 48 heaviest.
    largest = weights.max(axis=1)
    heaviest = np.argsort(-largest, kind="stable")[:48]
    heaviest = heaviest[(weights[heaviest] > 1e-3 * weights.max(axis=0)).any(axis=1)]
    kept = weights[heaviest] / weights[heaviest].sum(axis=0)
    diagonal = np.einsum("mii->mi", inverses[heaviest])[:, None]
    each = np.einsum("mij,bji->mbi", inverses[heaviest], without) / diagonal
    above = np.einsum("mb,mbi->bi", kept, each)
    variance = np.einsum("mb,mbi->bi", kept, 1 / diagonal + each**2) - above**2
    return Process(
        tuple(terms), smooth, at, np.exp(settings[heaviest]),
        relevance[heaviest] / np.exp(settings[heaviest, count + 1])[:, None], kept, alphas[heaviest],
        inverses[heaviest], (above, np.sqrt(np.maximum(variance, 1e-12))),
    )  # fmt: skip


def covariance(terms: Sequence[Term], smooth: Smooth, at: NDArray[np.int_]) -> Floats:
    """The prior covariance of rows `at`, (N, N), without noise, all settings in their middle."""
    total = np.zeros((len(at), len(at)))
    for term in terms:
        total += term.middle**2 * (term.coordinates[at] @ term.coordinates[at].T)
    seen = smooth.coordinates[at]
    if seen.shape[1]:
        distances = np.sqrt(squared_distances(seen, seen)) / np.sqrt(seen.shape[1])
        total += smooth.middle**2 * matern32(distances / np.sqrt(REACH[0] * REACH[1]))
    return total


def _relevance(groups: NDArray[np.int_], unit: Floats, rng: np.random.Generator) -> Floats:
    """How much columns count, (m, k): log normal, a third each with features, devices and both; unit norm."""
    drawn = np.exp(rng.standard_normal((len(unit), len(groups))))
    if len(set(groups.tolist())) == 2:
        drawn[unit < 1 / 3] *= groups == 0
        drawn[unit > 2 / 3] *= groups == 1
    norm = np.sqrt((drawn**2).sum(axis=1, keepdims=True))
    return np.asarray(drawn / np.maximum(norm, 1e-12))


def _around(
    settings: Floats, relevance: Floats, logs: Floats, unit: Floats, lows: Floats, highs: Floats
) -> tuple[Floats, Floats, Floats]:
    """Draws near heavy ones of the first round, and the log density they are drawn with (to the prior)."""
    from scipy.stats import norm

    weights = np.exp(0.5 * (logs - logs.max()))
    weights /= weights.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), unit[:, -1]), len(weights) - 1)
    width = 0.12 * (highs - lows)
    fresh = settings[chosen] + width * norm.ppf(np.clip(unit[:, :-1], 1e-4, 1 - 1e-4))
    fresh = np.clip(fresh, lows, highs)
    # The relevance is inherited: the density of a draw is that of its ancestor's neighbourhood.
    distance = ((fresh - settings[chosen]) / width) ** 2
    near = weights[chosen] * len(weights) * np.exp(-0.5 * distance.sum(axis=1))
    share = near * float(np.prod((highs - lows) / (width * np.sqrt(2 * np.pi))))
    return fresh, relevance[chosen], np.log(0.5 + 0.5 * share)


def _solve(covariance: Floats, residuals: Floats) -> tuple[Floats, Floats, Floats]:
    """Log marginal likelihood (m, b), K^-1 y (m, N, b) and K^-1 (m, N, N)."""
    count = covariance.shape[-1]
    lower = np.linalg.cholesky(covariance + 1e-10 * np.eye(count))
    inverse_lower = np.linalg.inv(lower)
    inverses = inverse_lower.transpose(0, 2, 1) @ inverse_lower
    alphas = inverses @ residuals.T
    likelihoods = evidence(residuals, alphas.transpose(0, 2, 1), lower[:, None])
    return likelihoods, alphas, inverses


# --- prior: how a new device may differ from a known one --------------------------------------


def prior_parts(rows: Rows, base: Floats) -> tuple[list[Term], Smooth]:
    """In what a new device may differ from `base`, (n,) log milliseconds: linear terms and a smooth one.

    Widths are in logs, so 0.1 is 10 %; they are wider where no known device says anything. The least ones
    are as good as none: a device may have no ways of its own.
    """
    known = rows.devices > 0
    terms = [Term(np.ones((len(rows.labels), 1)), (0.3, 0.3001), 0.30005)]
    if known:
        terms.append(Term(rows.slope[:, None], (0.002, 0.5), 0.070711))
    if rows.spread.shape[1]:
        terms.append(Term(rows.spread, (0.02, 3.0), 0.547723))
    if rows.mixture.shape[1] and not rows.costs.shape[1]:  # else the costs tell of sums
        terms.append(Term(rows.mixture, (0.002, 0.7), 0.083666))
    if rows.shape.shape[1]:
        terms.append(_weighted(rows.shape, *(((0.0006, 0.3), 0.03) if known else ((0.002, 1.0), 0.1))))
    if rows.codes.shape[1]:
        terms.append(_weighted(rows.codes, *(((0.0002, 0.2), 0.0141421) if known else ((0.002, 1.0), 0.1))))
    if rows.costs.shape[1]:
        shares = rows.costs / np.exp(base - np.median(base))[:, None]
        scale = shares.std(axis=0)
        shares = (shares - shares.mean(axis=0))[:, scale > 1e-9] / scale[scale > 1e-9]
        shares = np.clip(shares, -6, 6)
        terms.append(_weighted(shares, *(((0.0006, 0.3), 0.03) if known else ((0.002, 0.5), 0.070711))))
    spread = rows.spread[:, :4]
    scale = spread.std(axis=0)
    devices = spread / np.where(scale > 0, scale, 1.0)
    if known:
        devices = np.column_stack([rows.slope, devices])
    coordinates = np.column_stack([rows.shape, devices]) if devices.shape[1] else rows.shape
    groups = np.repeat([0, 1], [rows.shape.shape[1], devices.shape[1]])
    return terms, Smooth(coordinates, groups, *(((0.005, 0.3), 0.0387298) if known else ((0.01, 1.0), 0.1)))


def _weighted(columns: Floats, widths: tuple[float, float], middle: float) -> Term:
    """A weight for each column, the widths those of their sum."""
    return Term(columns / np.sqrt(max(columns.shape[1], 1)), widths, middle)
