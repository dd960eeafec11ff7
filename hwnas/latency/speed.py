"""How a machine's wandering speed shows in what is timed: not in everything alike.

A neighbour on the same host takes a share of the last cache; heat lowers a clock. Both slow the
companion down, but other work more or less so: an op that stays in the nearest cache hardly sees the
first, a large network that comes from memory anyway neither. With x = log(companion / its middle),

    log(time) = log(time at the middle speed) + share x,    share = a + b log(ms) + c log(ms)^2

and a, b, c from the passes: every cell is timed several times, at different speeds. They are drawn to
a share of 0.7 for all (normal priors), so that three networks are not asked for what only fifty know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Sharing", "fit_sharing"]

PRIOR = (0.7, 0.0, 0.0)
PRIOR_STD = (0.4, 0.3, 0.15)
NOISE = 0.02
"""Of one pass, relative, once the machine's speed is taken out; larger deviations count for less."""
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Sharing:
    """How much of the companion's slowing down a cell shares, by how long the cell takes."""

    coefficients: tuple[float, float, float] = PRIOR

    def share(self, milliseconds: float) -> float:
        """0: the companion's speed does not show in it; 1: it is slowed down like the companion."""
        logarithm = np.log(milliseconds)
        constant, slope, bend = self.coefficients
        return float(np.clip(constant + slope * logarithm + bend * logarithm**2, 0.0, 1.2))

    def at_middle_speed(
        self, passes_ms: Sequence[float], companions_ms: Sequence[float], middle_ms: float
    ) -> tuple[float, ...]:
        """What each pass of a cell would have taken, had the companion taken `middle_ms` beside it."""
        share = self.share(float(np.median(passes_ms)))
        return tuple(
            own * (middle_ms / companion) ** share
            for own, companion in zip(passes_ms, companions_ms, strict=True)
        )


def fit_sharing(cells: Iterable[Sequence[tuple[float, float]]]) -> Sharing:
    """From each cell's passes: (milliseconds, the companion's milliseconds beside it).

    Cells of one kind, that is all ops or all networks; those of a single pass say nothing.
    """
    rows: list[list[float]] = []
    wanted: list[float] = []
    for passes in cells:
        if len(passes) < 2:
            continue
        logs = np.log(np.asarray(passes, dtype=float))
        size = float(np.median(logs[:, 0]))
        away = (logs - logs.mean(axis=0)) * np.sqrt(len(logs) / (len(logs) - 1))
        for own, companion in away:
            rows.append([companion, companion * size, companion * size**2])
            wanted.append(own)
    if not rows:
        return Sharing()
    design, target = np.array(rows), np.array(wanted)
    prior, strength = np.array(PRIOR), np.diag(1 / np.array(PRIOR_STD))
    weight = np.ones(len(target))
    solved = prior
    for _ in range(_ROUNDS):  # Huber's weights: a pass that was disturbed in another way counts for less
        left = np.vstack([design * weight[:, None] / NOISE, strength])
        right = np.append(target * weight / NOISE, strength @ prior)
        solved = np.linalg.lstsq(left, right, rcond=None)[0]
        weight = np.sqrt(1 / np.maximum(1, np.abs(target - design @ solved) / (1.5 * NOISE)))
    return Sharing((float(solved[0]), float(solved[1]), float(solved[2])))
