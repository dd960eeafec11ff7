"""In what a new device may differ from a base: the parts of the prior of its log milliseconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.transfer_process import Smooth, Term
from hwnas.predictors.latency.transfer_rows import Rows

__all__ = ["prior_parts"]

Floats = NDArray[np.float64]


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
