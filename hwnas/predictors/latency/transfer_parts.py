"""The prior of a new device's log milliseconds: its mean, and the parts in which it may differ from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.transfer_process import Smooth, Term
from hwnas.predictors.latency.transfer_rows import Rows

__all__ = ["prior_mean", "prior_parts"]

Floats = NDArray[np.float64]

_AGREEMENT = 4.0
"""The power of its deviation with which a known device counts less."""


def prior_mean(rows: Rows, at: NDArray[np.int_], logs: Floats) -> Floats:
    """Log milliseconds of every row, (n,), up to a constant: the typical known device's.

    Without any, non-negative costs of the features, by least squares of relative errors on the rows `at`.
    """
    if rows.devices:
        return _like_those_that_agree(rows, at, logs)
    if not rows.costs.shape[1]:
        return rows.typical
    from scipy.optimize import nnls

    costs = np.column_stack([rows.costs, np.ones(len(rows.labels))])
    typical = np.exp(np.median(logs))
    relative = costs[at] * typical / np.exp(logs)[:, None]
    ridge = np.sqrt(0.001 * len(at)) * np.eye(costs.shape[1])
    weights, _ = nnls(np.vstack([relative, ridge]), np.append(np.ones(len(at)), np.zeros(costs.shape[1])))
    summed = costs @ weights * typical
    return np.asarray(np.log(np.maximum(summed, 1e-3 * summed[at].min() + 1e-300)))


def _like_those_that_agree(rows: Rows, at: NDArray[np.int_], logs: Floats) -> Floats:
    """A mean of the known devices, (n,), in which those count more that agree with what was measured.

    A twin of the new device outweighs all others; among equals nothing changes. Agreement is up to a
    factor; it starts from how much devices differ among themselves, as if that had been seen twice.
    """
    gaps = logs[:, None] - rows.logs[at]
    squares = ((gaps - np.median(gaps, axis=0)) ** 2).sum(axis=0)
    among = float(
        np.mean((rows.logs - rows.typical[:, None] - (rows.logs - rows.typical[:, None]).mean(axis=0)) ** 2)
    )
    strangeness = (squares + 2 * among) / (len(at) + 2) + 1e-8
    weights = (strangeness / strangeness.min()) ** (-_AGREEMENT / 2)
    return np.asarray(rows.logs @ (weights / weights.sum()))


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
