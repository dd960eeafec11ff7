"""Surrogate: a Gaussian process over networks that have been evaluated, in numpy.

Rasmussen and Williams 2006, algorithm 2.1 and equation 5.9. The covariance of two networks is a line
in each group of features plus a Matern 5/2 bump over all of them, with one length for each group; how
much each counts maximises the marginal likelihood times weak priors. Noise has two parts: one
that is the same for all, and a share of what the estimator itself says it does not know. Both are
learned, so an estimator whose answers repeat exactly is followed exactly, whatever it says of its
error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from hwnas.gaussian_process import evidence, matern52, squared_distances
from hwnas.types import Floats

__all__ = ["Settings", "Surrogate", "fitted_settings"]


ROOT5 = math.sqrt(5.0)
JITTER = 1e-8
STEPS = 40
"""Of the optimiser; the likelihood is flat long before."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process believes of its function; all in units of the scores' standard deviation."""

    lengths: tuple[float, ...]
    """Of the bump, one for each group of features."""
    slopes: tuple[float, ...]
    """Standard deviation of the linear effect of each group."""
    height: float
    """Standard deviation of the bump."""
    noise: float
    """Standard deviation of an evaluation."""
    share: float
    """How much of the estimator's own standard deviation is noise too, 0 to 1."""


# Means and standard deviations of the normal priors on the logarithms, and bounds.
LENGTH, SLOPE, HEIGHT = (math.log(2.5), 1.0), (math.log(0.3), 1.0), (0.0, 1.0)
NOISE, SHARE = (math.log(0.05), 1.5), (math.log(0.1), 1.5)
LEAST_NOISE = 1e-3


def fitted_settings(features: Floats, scores: Floats, deviations: Floats, groups: list[slice]) -> Settings:
    """The most probable settings, given some evaluated networks.

    `features` is (n, columns), `scores` (n,) with about mean 0 and variance 1, `deviations` (n,) what
    the estimator says of its own error, in the same unit.
    """
    inner = [features[:, group] @ features[:, group].T for group in groups]
    apart = [squared_distances(features[:, group], features[:, group]) for group in groups]
    used = [index for index, group in enumerate(groups) if group.stop > group.start]
    known_errors = bool((deviations > 0).any())
    count = len(used)
    means = np.array([LENGTH[0]] * count + [SLOPE[0]] * count + [HEIGHT[0], NOISE[0], SHARE[0]])
    spreads = np.array([LENGTH[1]] * count + [SLOPE[1]] * count + [HEIGHT[1], NOISE[1], SHARE[1]])
    variance = deviations**2

    def cost(logs: Floats) -> tuple[float, Floats]:
        lengths, slopes = np.exp(-2 * logs[:count]), np.exp(2 * logs[count : 2 * count])
        height, noise, share = np.exp(2 * logs[2 * count :])
        squared = sum(weight * apart[index] for weight, index in zip(lengths, used, strict=True))
        scaled = ROOT5 * np.sqrt(squared)
        fall = np.exp(-scaled)
        bump = height * (1 + scaled + scaled**2 / 3) * fall
        covariance = bump + sum(weight * inner[index] for weight, index in zip(slopes, used, strict=True))
        covariance[np.diag_indices_from(covariance)] += noise + share * variance + JITTER
        try:
            root = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(logs)
        weights = cho_solve((root, True), scores, check_finite=False)
        inverse, _ = lapack.dpotri(root, lower=True)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        from_prior = (logs - means) / spreads
        value = 0.5 * float(from_prior @ from_prior) - float(evidence(scores, weights, root))
        pull = 0.5 * (inverse - np.outer(weights, weights))  # of the cost, by the covariance
        along = pull * (-(5 / 6) * height * (1 + scaled) * fall)  # by the squared distance
        slope = np.empty_like(logs)
        for place, (length, line, index) in enumerate(zip(lengths, slopes, used, strict=True)):
            slope[place] = -2 * length * np.vdot(along, apart[index])
            slope[count + place] = 2 * line * np.vdot(pull, inner[index])
        slope[2 * count] = 2 * np.vdot(pull, bump)
        slope[2 * count + 1] = 2 * noise * np.trace(pull)
        slope[2 * count + 2] = 2 * share * (np.diag(pull) @ variance)
        return value, slope + from_prior / spreads

    bounds = [(-3.0, 5.0)] * count + [(-6.0, 2.0)] * count + [(-4.0, 3.0)]
    bounds += [(math.log(LEAST_NOISE), 0.7), (-6.0, 0.0)]
    ends = [
        minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
        for start in (means, _rough(means, count))
    ]
    values = np.exp(min(ends, key=lambda end: float(end.fun)).x)
    lengths, slopes = np.full(len(groups), np.inf), np.zeros(len(groups))
    lengths[used], slopes[used] = values[:count], values[count : 2 * count]
    height, noise, share = (float(value) for value in values[2 * count :])
    return Settings(
        tuple(lengths.tolist()), tuple(slopes.tolist()), height, noise, share**2 if known_errors else 0.0
    )


def _rough(means: Floats, count: int) -> Floats:
    """Where to begin a second time: at what is told with much noise and few bumps.

    From the means alone, a noisy function may be taken for one with a bump at each network.
    """
    start = means.copy()
    start[2 * count :] = math.log(0.5), math.log(0.5), SHARE[0]
    return start


class Surrogate:
    """What is believed of any network after some were evaluated."""

    def __init__(
        self,
        settings: Settings,
        features: Floats,
        scores: Floats,
        deviations: Floats,
        groups: list[slice],
    ) -> None:
        """The arguments are those of `fitted_settings`, of no matter how many networks."""
        self._settings = settings
        columns = features.shape[1]
        self._near, self._line = np.zeros(columns), np.zeros(columns)
        for group, length, slope in zip(groups, settings.lengths, settings.slopes, strict=True):
            self._near[group], self._line[group] = 1 / length, slope
        self._features = features
        self._bent, self._lined = features * self._near, features * self._line
        covariance = self._covariance(features, features)
        noise = settings.noise**2 + settings.share * deviations**2
        covariance[np.diag_indices_from(covariance)] += noise + JITTER
        self._root = cholesky(covariance, lower=True, check_finite=False)
        self._weights = cho_solve((self._root, True), scores, check_finite=False)
        self.noise = settings.noise

    def mean(self, features: Floats) -> Floats:
        """The expected score of networks, shape (n,)."""
        expected: Floats = self._covariance(features, self._features) @ self._weights
        return expected

    def believed(self, features: Floats) -> tuple[Floats, Floats]:
        """The expected score and its standard deviation (without noise), each of shape (n,)."""
        shared = self._covariance(features, self._features)
        known = solve_triangular(self._root, shared.T, lower=True, check_finite=False)
        own = self._settings.height**2 + np.square(features * self._line).sum(axis=1)
        variance = np.maximum(own - np.square(known).sum(axis=0), 1e-12)
        return shared @ self._weights, np.sqrt(variance)

    def covariance(self, features: Floats) -> Floats:
        """What is not known of networks, together: (n, n)."""
        known = solve_triangular(
            self._root, self._covariance(self._features, features), lower=True, check_finite=False
        )
        together: Floats = self._covariance(features, features) - known.T @ known
        return together

    def _covariance(self, a: Floats, b: Floats) -> Floats:
        covariance = matern52(squared_distances(a * self._near, b * self._near))
        covariance *= self._settings.height**2
        covariance += (a * self._line) @ (b * self._line).T
        return covariance
