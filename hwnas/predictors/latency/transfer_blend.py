"""Several answers to the same rows, weighted by how likely each made measured rows that it did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answers", "blend_shares", "blended"]

Floats = NDArray[np.float64]

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
