"""What the Gaussian processes of hwnas share: distances, kernels, the marginal likelihood.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: equations 2.30 (marginal likelihood),
4.9 (squared exponential) and 4.17 (Matern). The processes themselves differ in what they fit and how:
`hwnas.search.surrogate.gp` (accuracy of candidates), `hwnas.predictors.latency.residual` (what a sum of
ops gets wrong), `hwnas.predictors.latency.transfer.process` (how a device differs from known ones).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.types import Floats

__all__ = ["evidence", "matern32", "matern52", "squared_distances", "squared_exponential"]


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared distances of all pairs, shape (n, m), for points of shape (n, k) and (m, k)."""
    squared: Floats = a @ (-2 * b).T
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)


def squared_exponential(squared: Floats) -> Floats:
    """exp(-d^2 / 2) of squared distances."""
    return np.asarray(np.exp(squared / -2))


def matern32(distances: Floats) -> Floats:
    """(1 + r) exp(-r), r = sqrt(3) d: once differentiable."""
    scaled = math.sqrt(3.0) * distances
    return np.asarray((1 + scaled) * np.exp(-scaled))


def matern52(squared: Floats) -> Floats:
    """(1 + r + r^2 / 3) exp(-r), r = sqrt(5) d, of squared distances, which it overwrites."""
    np.sqrt(squared, out=squared)
    squared *= math.sqrt(5.0)
    covariance = squared / 3
    covariance += 1
    covariance *= squared
    covariance += 1
    np.negative(squared, out=squared)
    covariance *= np.exp(squared, out=squared)
    return covariance


def evidence(residuals: Floats, weights: Floats, root: NDArray[np.floating[Any]]) -> Floats:
    """Log marginal likelihood up to a constant, shape (...).

    `weights` are the inverse covariance times the residuals, (..., n) both, `root` the lower Cholesky factor
    of the covariance, (..., n, n).
    """
    fit = (residuals * weights).sum(axis=-1)
    determinant = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.asarray(-0.5 * fit - 0.5 * determinant)
