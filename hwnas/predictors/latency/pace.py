"""How a machine's wandering speed shows in what is timed: not in everything alike.

A neighbour on the same host takes a share of the last cache; heat lowers a clock. Both slow the
reference network down, and what takes turns with it more or less so: an op that stays in the nearest cache
hardly sees the first, a large network that comes from memory anyway neither. With x the logarithm of
the reference network's time over what it takes at the machine's middle speed (its `Pace`),

    log(time) = log(time at the middle speed) + share x,    share = a + b log(ms) + c log(ms)^2

and a, b, c from the passes: every cell is timed several times, at different speeds. They are drawn to
a share of 0.7 for all (normal priors), so that three networks are not asked for what only fifty know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.board.timing import median
from hwnas.types import Floats

__all__ = ["Pace", "Sharing", "fit_pace", "fit_sharing"]

PRIOR = (0.7, 0.0, 0.0)
PRIOR_STD = (0.4, 0.3, 0.15)
NOISE = 0.02
"""Of one pass, relative, once the machine's speed is taken out; larger deviations count for less."""
PACE_FROM = 20
"""Cells below which a pace is not told from the sizes of those few."""
_WANDERING = 0.03
_ROUNDS = 10

Passes = Sequence[tuple[float, float]]
"""Of one cell: its milliseconds in each pass, and the reference network's beside it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What the reference network takes at the middle speed, by how long its turn-taker does.

    The larger the other is, the fewer of its data does the reference network find in the caches.
    """

    coefficients: tuple[float, float, float]

    def reference_ms(self, milliseconds: float) -> float:
        """Beside a cell that takes so long."""
        constant, slope, bend = self.coefficients
        logarithm = np.log(milliseconds)
        return float(np.exp(constant + slope * logarithm + bend * logarithm**2))


@dataclass(frozen=True, slots=True)
class Sharing:
    """How much of the reference network's slowing down a cell shares, by how long the cell takes."""

    coefficients: tuple[float, float, float] = PRIOR

    def share(self, milliseconds: float) -> float:
        """0: the reference network's speed does not show in it; 1: it is slowed down as much."""
        logarithm = np.log(milliseconds)
        constant, slope, bend = self.coefficients
        return float(np.clip(constant + slope * logarithm + bend * logarithm**2, 0.0, 1.2))

    def at_middle_speed(self, passes: Passes, pace: Pace | None) -> tuple[float, ...]:
        """What each pass of a cell would have taken, had the reference network been at its pace.

        Without a pace: at the middle speed of the cell's own passes.
        """
        size_ms = median([own for own, _ in passes])
        middle_ms = median([beside for _, beside in passes]) if pace is None else pace.reference_ms(size_ms)
        share = self.share(size_ms)
        return tuple(own * (middle_ms / beside) ** share for own, beside in passes)


def fit_pace(cells: Iterable[Passes]) -> Pace | None:
    """The pace at which the reference network was beside these cells; None where they are too few to tell.

    Cells of one kind, that is all ops or all networks.
    """
    kept = [passes for passes in cells if passes]
    if len(kept) < PACE_FROM:
        return None
    sizes = np.log([median([own for own, _ in passes]) for passes in kept for _ in passes])
    wanted = np.log([beside for passes in kept for _, beside in passes])
    design = np.column_stack([np.ones_like(sizes), sizes, sizes**2])
    return Pace(_robust(design, wanted, _WANDERING, np.zeros((0, 3)), np.zeros(0)))


def fit_sharing(cells: Iterable[Passes]) -> Sharing:
    """From the passes of cells of one kind; those of a single pass say nothing."""
    rows: list[list[float]] = []
    wanted: list[float] = []
    for passes in cells:
        if len(passes) < 2:
            continue
        logs = np.log(np.asarray(passes, dtype=float))
        size = float(np.median(logs[:, 0]))
        away = (logs - logs.mean(axis=0)) * np.sqrt(len(logs) / (len(logs) - 1))
        for own, reference in away:
            rows.append([reference, reference * size, reference * size**2])
            wanted.append(own)
    if not rows:
        return Sharing()
    prior = np.diag(1 / np.array(PRIOR_STD))
    return Sharing(_robust(np.array(rows), np.array(wanted), NOISE, prior, prior @ PRIOR))


def _robust(
    design: Floats, wanted: Floats, noise: float, prior: Floats, prior_wanted: Floats
) -> tuple[float, float, float]:
    """Least squares with Huber's weights: a pass that was disturbed in another way counts for less."""
    weight = np.ones(len(wanted))
    solved: Floats = np.zeros(3)
    for _ in range(_ROUNDS):
        left = np.vstack([design * weight[:, None] / noise, prior])
        right = np.append(wanted * weight / noise, prior_wanted)
        solved = np.asarray(np.linalg.lstsq(left, right, rcond=None)[0], dtype=float)
        weight = np.sqrt(1 / np.maximum(1, np.abs(wanted - design @ solved) / (1.5 * noise)))
    return float(solved[0]), float(solved[1]), float(solved[2])
