"""What a calibrated sum gets wrong in common with networks like it: a Gaussian process on few features.

Ops add up, networks do not quite: what one op leaves in the caches the next one finds, and how much
that saves depends on how large the network is as a whole. The logarithm of measured / calibrated sum
is smooth in the logarithms of a network's own milliseconds, weights, activations and nodes; it is
drawn to 0 far from every network seen (Rasmussen and Williams, Gaussian Processes for Machine
Learning, eq. 2.25; amplitude, reach and noise by the marginal likelihood, eq. 2.30).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.gaussian_process import squared_distances, squared_exponential
from hwnas.types import Floats

__all__ = ["FEATURES", "Residual", "fit_residual"]

FEATURES = ("own_ms", "weight_mib", "activation_mib", "nodes")
"""Of a whole network, each the sum over its ops: milliseconds alone, MiB of weights, MiB of activations
read and written, executed nodes."""

AMPLITUDES = (0.005, 0.01, 0.02, 0.04, 0.08)
REACHES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
NOISES = (0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05)
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Residual:
    """A factor near 1 for each network; without points it is 1."""

    centre: tuple[float, ...] = ()
    """Of the logarithms of the features."""
    scale: tuple[float, ...] = ()
    """What a unit of distance is, in each logarithm."""
    reach: float = 1.0
    """How many units a network's say goes."""
    points: tuple[tuple[float, ...], ...] = ()
    """The networks it was fitted on, as distances from the centre."""
    weights: tuple[float, ...] = ()
    """What each of them adds at its own place."""

    def factors(self, features: Floats) -> Floats:
        """What calibrated sums are multiplied with, shape (n,), from FEATURES, shape (n, 4)."""
        if not self.points:
            return np.ones(len(features))
        places = (np.log(features) - self.centre) / self.scale
        points, weights = np.asarray(self.points), np.asarray(self.weights)
        logs = np.empty(len(places))
        for start in range(0, len(places), _CHUNK):
            part = slice(start, start + _CHUNK)
            logs[part] = _likeness(places[part], points, self.reach) @ weights
        return np.exp(logs)

    def factor(self, features: Sequence[float]) -> float:
        """The factor of one network."""
        return float(self.factors(np.asarray([features], dtype=float))[0])


def fit_residual(features: Floats, calibrated_ms: Floats, measured_ms: Floats) -> Residual:
    """The residual of networks with these features, shape (n, 4), n >= 4.

    It has no points where noise alone explains what is left, by the marginal likelihood.
    """
    logs = np.log(features)
    centre, scale = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-9)
    places = (logs - centre) / scale
    wanted = np.log(measured_ms / calibrated_ms)
    best_value = max(_log_likelihood(wanted**2, np.zeros(len(wanted)), noise) for noise in NOISES)
    best: tuple[float, Floats] | None = None
    for reach in REACHES:
        values, vectors = np.linalg.eigh(_likeness(places, places, reach))
        turned = vectors.T @ wanted
        for amplitude, noise in itertools.product(AMPLITUDES, NOISES):
            spectrum = amplitude**2 * np.maximum(values, 0.0)
            value = _log_likelihood(turned**2, spectrum, noise)
            if value > best_value:
                best_value = value
                best = reach, amplitude**2 * (vectors @ (turned / (spectrum + noise**2)))
    if best is None:
        return Residual()
    reach, weights = best
    return Residual(
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        reach=reach,
        points=tuple(tuple(place) for place in places.tolist()),
        weights=tuple(weights.tolist()),
    )


def _likeness(places: Floats, points: Floats, reach: float) -> Floats:
    """exp(-distance^2 / (2 reach^2)), shape (places, points)."""
    return squared_exponential(squared_distances(places, points) / reach**2)


def _log_likelihood(squares: Floats, spectrum: Floats, noise: float) -> float:
    """Of normal values whose squares, in the covariance's own axes, are given; up to a constant."""
    variances = spectrum + noise**2
    return float(-0.5 * (squares / variances + np.log(variances)).sum())
