"""What a new device's log milliseconds may be close to, before its own ways are learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.transfer.rows import Rows
from hwnas.types import Floats

__all__ = ["Base", "candidate_bases"]

Places = NDArray[np.int_]
Find = Callable[[Rows, Places, Floats], Floats]

_AGREEMENT = 4.0
"""The power of its deviation with which a known device counts less."""
_FEWEST_OF_A_KIND = 2
"""Measured rows of a kind from which on it has a factor of its own."""
_AS_IF_SEEN = 2.0
"""Rows on which a new device is taken to differ from the known ones as they do among themselves."""


@dataclass(frozen=True, slots=True)
class Base:
    """Log milliseconds that the new device would have without ways of its own."""

    name: str
    logs: Floats
    """(n,)"""
    left_out: Floats
    """(N, N): [j, i] is that of measured row j, found without measured row i."""


def candidate_bases(rows: Rows, at: Places, logs: Floats) -> list[Base]:
    """The candidates for measured rows `at`, (N,), and their log milliseconds `logs`, (N,)."""
    ways: dict[str, Find] = {}
    if rows.devices:
        ways["agreeing"] = _agreeing
    if rows.devices > 1:
        ways |= {"mixed": _mixed, "twin": _twin}
    if rows.devices and rows.kinds.shape[1]:
        ways["apart"] = _apart
    if rows.costs.shape[1]:
        ways["costs"] = _costs
    return [_base(name, way, rows, at, logs) for name, way in (ways or {"typical": _typical}).items()]


def _base(name: str, way: Find, rows: Rows, at: Places, logs: Floats) -> Base:
    """`way`, up to a factor that the measured rows tell; with fewer than 3 of them none can be left out."""

    def found(kept: Places) -> Floats:
        base = way(rows, at[kept], logs[kept])
        return np.asarray(base + np.median(logs[kept] - base[at[kept]]))

    every = np.arange(len(at))
    whole = found(every)
    if len(at) < 3:
        return Base(name, whole, np.repeat(whole[at][:, None], len(at), axis=1))
    return Base(name, whole, np.column_stack([found(np.delete(every, i))[at] for i in every]))


def _typical(rows: Rows, at: Places, logs: Floats) -> Floats:
    return rows.typical


def _agreeing(rows: Rows, at: Places, logs: Floats) -> Floats:
    """A mean of the known devices in which those count more that agree with what was measured.

    A twin of the new device outweighs all others; among equals nothing changes. Agreement is up to a
    factor; it starts from how much devices differ among themselves, as if that had been seen twice.
    """
    strangeness = _strangeness(rows, at, logs)
    weights = (strangeness / strangeness.min()) ** (-_AGREEMENT / 2)
    return np.asarray(rows.logs @ (weights / weights.sum()))


def _apart(rows: Rows, at: Places, logs: Floats) -> Floats:
    """As `_agreeing`, with one factor for each kind of row: int8 ones where devices are known in float."""
    base = _agreeing(rows, at, logs)
    for kind in rows.kinds.T:
        gaps = logs - base[at]
        for which in (0.0, 1.0):
            own = gaps[kind[at] == which]
            if len(own) >= _FEWEST_OF_A_KIND:
                base = base + (kind == which) * np.median(own)
    return base


def _twin(rows: Rows, at: Places, logs: Floats) -> Floats:
    """The known device that agrees best."""
    return np.asarray(rows.logs[:, int(_strangeness(rows, at, logs).argmin())])


def _strangeness(rows: Rows, at: Places, logs: Floats) -> Floats:
    """(devices,): squared deviation of each from what was measured."""
    gaps = logs[:, None] - rows.logs[at]
    squares = ((gaps - np.median(gaps, axis=0)) ** 2).sum(axis=0)
    among = float(np.mean(_odd(rows) ** 2))
    return np.asarray((squares + _AS_IF_SEEN * among) / (len(at) + _AS_IF_SEEN) + 1e-8)


def _mixed(rows: Rows, at: Places, logs: Floats) -> Floats:
    """The mixture of known devices, with weights of at least 0 and sum 1, that fits best.

    It starts from the typical device, as `_agreeing` does.
    """
    from scipy.optimize import nnls

    known = rows.logs[at]
    known, wanted = known - known.mean(axis=0), logs - logs.mean()
    odd = _odd(rows)
    shrink = np.linalg.qr(odd * np.sqrt(_AS_IF_SEEN / len(odd)), mode="r")
    sum_to_one = 1e3 * max(float(np.abs(known).max(initial=0.0)), 1e-6) * np.ones((1, rows.devices))
    weights, _ = nnls(
        np.vstack([known, shrink, sum_to_one]),
        np.concatenate([wanted, np.zeros(len(shrink)), sum_to_one[0, :1]]),
    )
    return np.asarray(rows.logs @ (weights / max(weights.sum(), 1e-12)))


def _odd(rows: Rows) -> Floats:
    """(n, devices): how known devices differ from the typical one, beyond a constant each."""
    odd = rows.logs - rows.typical[:, None]
    return np.asarray(odd - odd.mean(axis=0))


def _costs(rows: Rows, at: Places, logs: Floats) -> Floats:
    """Non-negative costs of the features, by least squares of relative errors."""
    from scipy.optimize import nnls

    costs = np.column_stack([rows.costs, np.ones(len(rows.labels))])
    typical = np.exp(np.median(logs))
    relative = costs[at] * typical / np.exp(logs)[:, None]
    ridge = np.sqrt(0.001 * len(at)) * np.eye(costs.shape[1])
    weights, _ = nnls(np.vstack([relative, ridge]), np.append(np.ones(len(at)), np.zeros(costs.shape[1])))
    summed = costs @ weights * typical
    return np.asarray(np.log(np.maximum(summed, 1e-3 * summed[at].min() + 1e-300)))
