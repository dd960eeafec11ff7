"""The prior of a new device's log milliseconds: its mean, and the parts in which it may differ from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.transfer_process import Smooth, Term
from hwnas.predictors.latency.transfer_rows import Rows

__all__ = ["prior_mean", "prior_parts"]

Floats = NDArray[np.float64]


def prior_mean(rows: Rows, at: NDArray[np.int_], logs: Floats) -> Floats:
    """Log milliseconds of every row, (n,), up to a constant: the typical known device's.

    Without any, non-negative costs of the features, by least squares of relative errors on the rows `at`.
    """
    if rows.devices or not rows.costs.shape[1]:
        return rows.typical
    from scipy.optimize import nnls

    costs = np.column_stack([rows.costs, np.ones(len(rows.labels))])
    typical = np.exp(np.median(logs))
    relative = costs[at] * typical / np.exp(logs)[:, None]
    ridge = np.sqrt(0.001 * len(at)) * np.eye(costs.shape[1])
    weights, _ = nnls(np.vstack([relative, ridge]), np.append(np.ones(len(at)), np.zeros(costs.shape[1])))
    summed = costs @ weights * typical
    return np.asarray(np.log(np.maximum(summed, 1e-3 * summed[at].min() + 1e-300)))


def prior_parts(rows: Rows, base: Floats) -> tuple[list[Term], Smooth]:
    """In what a new device may differ from the prior mean `base`, (n,): linear terms and a smooth one.

    Widths are in logs, so 0.1 is 10 %; they are wider where no known device says anything.
    """
    known = rows.devices > 0
    terms = [Term(np.ones((len(rows.labels), 1)), (0.3, 0.3001))]
    if known:
        terms.append(Term(rows.slope[:, None], (0.01, 0.5)))
    if rows.spread.shape[1]:
        terms.append(Term(rows.spread, (0.1, 3.0)))
    if rows.mixture.shape[1] and not rows.costs.shape[1]:  # else the costs tell of sums
        terms.append(Term(rows.mixture, (0.01, 0.7)))
    if rows.shape.shape[1]:
        terms.append(Term(rows.shape / np.sqrt(rows.shape.shape[1]), (0.003, 0.3) if known else (0.01, 1.0)))
    if rows.codes.shape[1]:
        terms.append(Term(rows.codes / np.sqrt(rows.codes.shape[1]), (0.001, 0.2) if known else (0.01, 1.0)))
    if rows.costs.shape[1]:
        shares = rows.costs / np.exp(base - np.median(base))[:, None]
        scale = shares.std(axis=0)
        shares = (shares - shares.mean(axis=0))[:, scale > 1e-9] / scale[scale > 1e-9]
        shares = np.clip(shares, -6, 6)
        terms.append(Term(shares / np.sqrt(max(shares.shape[1], 1)), (0.003, 0.3) if known else (0.01, 0.5)))
    spread = rows.spread[:, :4]
    scale = spread.std(axis=0)
    devices = spread / np.where(scale > 0, scale, 1.0)
    if known:
        devices = np.column_stack([rows.slope, devices])
    coordinates = np.column_stack([rows.shape, devices]) if devices.shape[1] else rows.shape
    groups = np.repeat([0, 1], [rows.shape.shape[1], devices.shape[1]])
    return terms, Smooth(coordinates, groups, (0.005, 0.3) if known else (0.01, 1.0))
