"""Gain: the hypervolume that a network may add to a front, when all objectives but its score are known.

A network with known objectives c and score s covers, above each place p of the known objectives with
c <= p, what lies between the best score there so far, f(p), and s. The integral over p is taken as a
mean over evenly spread places; what is expected of s - f(p) where it is positive is the expected
improvement of a normal score (Jones et al. 1998, equation 15). So, unlike for objectives that are all
unknown (Emmerich et al. 2006), the expected gain needs no integral over cells and takes any number of
known objectives.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from hwnas.types import Floats

__all__ = ["Gain", "halton"]


PLACES = 256
BEYOND = 0.1
"""The score from which volume counts lies below the worst of the front by this share of its range."""


class Gain:
    """What is expected of networks, given a front; `add` puts one more on it."""

    def __init__(self, known: Floats, scores: Floats, *, ideal: Floats, reference: Floats) -> None:
        """`known` is (n, objectives), minimised; `scores` (n,), maximised.

        Volume counts between the corners `ideal` and `reference`, (objectives,) each.
        """
        steps = halton(PLACES, known.shape[1])
        self._places = ideal + steps * (reference - ideal)
        within = self._covers(known)  # (n, places)
        best = np.where(within, scores[:, None], -np.inf).max(axis=0)
        on_front = best[np.isfinite(best)]
        floor = float(scores.min())
        if len(on_front):
            floor = float(on_front.min() - BEYOND * max(np.ptp(on_front), 1e-9))
        self._levels = np.maximum(best, floor)

    def expected(self, known: Floats, means: Floats, deviations: Floats) -> Floats:
        """The expected gain of each network alone, shape (n,), from its believed score."""
        above = (means[:, None] - self._levels) / deviations[:, None]
        density = np.exp(-0.5 * np.square(above)) / np.sqrt(2 * np.pi)
        improvement = deviations[:, None] * (above * ndtr(above) + density)
        gain: Floats = np.where(self._covers(known), improvement, 0.0).mean(axis=1)
        return gain

    def add(self, known: Floats, score: float) -> None:
        """Takes a network with these objectives, (objectives,), as evaluated."""
        covered = self._covers(known[None])[0]
        self._levels = np.where(covered, np.maximum(self._levels, score), self._levels)

    def _covers(self, known: Floats) -> NDArray[np.bool_]:
        covers: NDArray[np.bool_] = np.all(known[:, None, :] <= self._places, axis=2)
        return covers


def halton(number: int, dimensions: int) -> Floats:
    """Evenly spread points of the unit cube, (number, dimensions) (Halton 1960): any first few are."""
    from scipy.stats import qmc  # half a second to import

    points: Floats = qmc.Halton(dimensions, scramble=False).random(number + 1)[1:]
    return points
