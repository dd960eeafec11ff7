"""From the sum of ops timed alone to the network they make up.

An op timed alone keeps its weights in the cache and pays the call into the runtime itself; inside
a network it does neither. So a network takes

    offset + sum over its ops of (scale of the op's kind * the op's own milliseconds + per-op overhead)

with scales that are not negative. They are fitted on whole networks with relative errors, drawn
towards one common scale (ridge), since a few dozen networks can't tell every kind apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["RIDGES", "Calibration", "Composition", "fit_calibration"]

RIDGES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
"""How strongly scales may be drawn together; the fit picks one by leaving networks out."""

Composition = Mapping[str, tuple[float, int]]
"""A network as calibration sees it: kind -> (sum of its ops' milliseconds, how many they are)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns an op's own milliseconds into its share of a network's."""

    scales: Mapping[str, float] = field(default_factory=dict)
    """By op kind, at least 0."""
    common_scale: float = 1.0
    """For kinds that no calibrating network had."""
    offset_ms: float = 0.0
    """Once a network."""
    per_op_ms: float = 0.0
    """Once an op; negative where calling the runtime costs more than being one node more."""
    networks: int = 0
    """How many whole networks it was fitted on."""

    def op_ms(self, kind: str, own_ms: float) -> float:
        """What an op that takes `own_ms` alone adds to a network."""
        return max(self.scales.get(kind, self.common_scale) * own_ms + self.per_op_ms, 0.0)

    def network_ms(self, composition: Composition) -> float:
        """The milliseconds of a whole network."""
        return self.offset_ms + sum(
            self.scales.get(kind, self.common_scale) * own_ms + self.per_op_ms * count
            for kind, (own_ms, count) in composition.items()
        )


def fit_calibration(
    networks: Sequence[Composition],
    measured_ms: Sequence[float],
    *,
    smallest_op_ms: float,
    ridges: Sequence[float] = RIDGES,
) -> Calibration:
    """The calibration that explains whole networks; the ridge is chosen by leaving networks out.

    `smallest_op_ms` is the fastest row: the per-op overhead stays above -0.8 of what it comes to,
    so that no op ever takes less than nothing. Needs at least 4 networks; raises ValueError below.
    """
    if len(networks) < 4:
        raise ValueError(f"calibration needs at least 4 whole networks, got {len(networks)}")
    kinds = sorted({kind for network in networks for kind in network})
    sums = np.array([[network.get(kind, (0.0, 0))[0] for kind in kinds] for network in networks])
    counts = np.array([sum(count for _, count in network.values()) for network in networks], dtype=float)
    measured = np.asarray(measured_ms, dtype=float)
    chosen = ridges[0]
    if len(ridges) > 1:
        chosen = min(ridges, key=lambda ridge: _left_out_error(sums, counts, measured, ridge, smallest_op_ms))
    weights, common = _fit(sums, counts, measured, chosen, smallest_op_ms)
    return Calibration(
        scales={kind: float(weight) for kind, weight in zip(kinds, weights, strict=False)},
        common_scale=common,
        offset_ms=float(weights[-2]),
        per_op_ms=float(weights[-1]),
        networks=len(networks),
    )


def _fit(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    measured: NDArray[np.float64],
    ridge: float,
    smallest_op_ms: float,
) -> tuple[NDArray[np.float64], float]:
    """Scales by kind, then the offset and the per-op overhead, shape (kinds + 2,); the common scale."""
    from scipy.optimize import lsq_linear

    total = sums.sum(axis=1)
    common = float(np.median(measured / total))
    design = np.column_stack([sums, np.ones_like(measured), counts]) / measured[:, None]
    # A scale's penalty is in parts of the common scale, the other two in parts of a mean network.
    unit = np.append(
        np.full(sums.shape[1], 1 / common),
        [1 / measured.mean(), counts.mean() / measured.mean()],
    )
    strength = np.sqrt(ridge * len(measured)) * unit
    target = np.append(np.full(sums.shape[1], common), [0.0, 0.0])
    lowest = np.append(np.zeros(sums.shape[1]), [0.0, -0.8 * common * 0.5 * smallest_op_ms])
    solved = lsq_linear(
        np.vstack([design, np.diag(strength)]),
        np.append(np.ones_like(measured), strength * target),
        bounds=(lowest, np.inf),
    )
    return np.asarray(solved.x, dtype=float), common


def _left_out_error(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    measured: NDArray[np.float64],
    ridge: float,
    smallest_op_ms: float,
) -> float:
    """Mean squared relative error of networks left out of the fit, in up to 10 folds."""
    folds = np.arange(len(measured)) % min(10, len(measured))
    errors = []
    for fold in range(folds.max() + 1):
        kept, left = folds != fold, folds == fold
        weights, _ = _fit(sums[kept], counts[kept], measured[kept], ridge, smallest_op_ms)
        predicted = np.column_stack([sums[left], np.ones(left.sum()), counts[left]]) @ weights
        errors.extend((predicted / measured[left] - 1) ** 2)
    return float(np.mean(errors))
