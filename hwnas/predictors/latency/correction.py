"""Correcting a table with whole networks that were measured on its board after it was built.

A network's prediction is a sum over parts: the ops of each kind (or, for a table of coefficients,
each feature), and what belongs to no kind. With p the prediction and s_k the share of part k in it,

    measured / p = 1 + d + sum over k of d_k s_k + noise

is linear in what is wanted: d, by which everything is slower, and d_k, by which one kind is beyond
that. Five to sixty networks cannot tell a dozen kinds apart by themselves, so d and d_k are drawn
towards 0 (normal priors: the posterior mean of a Bayesian linear model, Rasmussen and Williams,
Gaussian Processes for Machine Learning, eq. 2.8 and 2.12). Whether anything is corrected, only d, or
d and d_k, and how freely, is chosen by leaving networks out, and a freer answer must be better than a
simpler one by more than 1.5 standard errors of the difference: a table that is right stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from hwnas.metrics import mape_percent
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Coefficients
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower
from hwnas.types import Floats

__all__ = ["Correction", "correct_table", "scaled_table"]


LEAST_ERROR = 0.01
"""What a table that tells no error, or less, is taken to err by, relative: two processes that time the
same network differ by 0.9 %."""
DRIFT = 0.03
"""How much slower or faster a machine may be as a whole by the day, relative."""
FREEDOMS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""How far one kind may be off beyond the rest, in parts of the table's error; one is chosen."""
DOUBT = 1.5
"""By how many standard errors a freer answer must be better than a simpler one."""
PER_KIND_FROM = 5
"""Networks below which kinds are not told apart."""
OWN_INTERVALS_FROM = 30
"""Networks from which a corrected table's interval needs no evidence from before the correction."""
FACTORS = (0.25, 4.0)
"""No part gets faster or slower than this, whatever a few networks seem to say."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A corrected table, and how it came about."""

    table: LatencyTable
    method: str
    """`none`, `one factor` or `per kind`."""
    factor: float
    """What everything is multiplied with; 1 where nothing is corrected."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """By op kind (for coefficients by feature): what it is multiplied with, the common factor included."""
    networks: int = 0
    """How many measured networks it was made from."""
    mape_before_percent: float | None = None
    """Mean absolute error of the table given on them; None without networks."""
    mape_after_percent: float | None = None
    """The same when each network is predicted by a correction made from the others."""


def correct_table(
    table: LatencyTable,
    archs: Sequence[ArchSpec],
    measured_ms: Sequence[float],
    *,
    spreads: Sequence[float] | None = None,
) -> Correction:
    """The table that these measured networks suggest; the one given is not touched.

    `spreads` are standard deviations of log(measured_ms), by which shaky networks count less.

    The interval of the corrected table comes from the networks measured, each predicted from the
    others, together with the table's own held-out networks. Where something was corrected and there
    are 20 networks or more they stand alone: the older evidence is of a table that was wrong.

    Raises MissingOpError when the table cannot predict one of the networks, ValueError for lengths
    that differ and times that are not positive.
    """
    measured = np.asarray(measured_ms, dtype=float)
    noise = np.zeros_like(measured) if spreads is None else np.asarray(spreads, dtype=float)
    if not len(archs) == len(measured) == len(noise):
        raise ValueError(
            f"each network needs one time, got {len(archs)} networks, {len(measured)} times and "
            f"{len(noise)} spreads"
        )
    if not bool(np.all(np.isfinite(measured) & (measured > 0))):
        raise ValueError(f"measured times must be positive, got {list(measured_ms)}")
    if not archs:
        return Correction(table, "none", 1.0)
    networks = [lower(arch) for arch in archs]
    predicted = np.array([table.predict_ops(ops).value for ops in networks])
    names = _parts(table, networks)
    problem = _Problem(
        shares=_shares(table, networks, names, predicted),
        ratios=measured / predicted,
        error=max(table.heldout.log_std, LEAST_ERROR),
        noise=noise,
    )
    everyone = np.arange(len(archs))
    choice = problem.choose(everyone)
    unknown = problem.fit(everyone, choice)
    left_out = predicted * np.array([problem.left_out_ratio(index) for index in range(len(archs))])
    factor, factors = _factors(unknown, names if choice.kinds else ())
    corrected = table if choice == NOTHING else scaled_table(table, factor, factors)
    method = choice.method
    before = mape_percent(measured, predicted)
    after = mape_percent(measured, left_out)
    heldout = _heldout(table, [arch.id for arch in archs], measured, left_out, corrected=choice != NOTHING)
    facts = {
        "method": method,
        "networks": len(archs),
        "factor": factor,
        "factors": dict(factors),
        "mape_before_percent": before,
        "mape_after_percent": after,
    }
    note = (
        f"Compared with {len(archs)} networks measured later: nothing to correct."
        if choice == NOTHING
        else f"Corrected ({method}) with {len(archs)} networks measured later: mean error {before:.1f} % "
        f"before, {after:.1f} % after (each predicted from the others)."
    )
    corrected = dataclasses.replace(
        corrected,
        heldout=heldout,
        measurement={**table.measurement, "correction": facts},
        notes=(*table.notes, note),
    )
    return Correction(corrected, method, factor, factors, len(archs), before, after)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What may be corrected, and how freely: standard deviations of the priors, in parts of the error."""

    method: str
    everything: bool = False
    kinds: float = 0.0


NOTHING = _Choice("none")
SIMPLEST_FIRST = (
    NOTHING,
    _Choice("one factor", everything=True),
    *(_Choice("per kind", everything=True, kinds=freedom) for freedom in FREEDOMS),
)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Networks as arrays; unknown are d and a d_k for each part."""

    shares: Floats  # (networks, parts): of the prediction
    ratios: Floats  # (networks,): measured / predicted
    error: float  # the table's, relative
    noise: Floats  # (networks,): of the measuring, relative

    def choose(self, own: NDArray[np.intp]) -> _Choice:
        """The simplest choice that no freer one beats clearly, by leaving each of these networks out."""
        best = NOTHING
        best_losses = self._left_out_losses(own, best)
        for choice in SIMPLEST_FIRST[1:]:
            if len(own) < (PER_KIND_FROM if choice.kinds else 2):
                break
            losses = self._left_out_losses(own, choice)
            gains = best_losses - losses
            # Between two ridges of the same kind the better one is taken; a freer kind must show it.
            doubt = 0.0 if choice.method == best.method else DOUBT * gains.std(ddof=1) / np.sqrt(len(own))
            if gains.mean() > doubt:
                best, best_losses = choice, losses
        return best

    def fit(self, own: NDArray[np.intp], choice: _Choice) -> Floats:
        """The posterior mean of (d, d_1, ...), shape (1 + parts,), from these networks."""
        design, prior = self._design(own), self._prior_variances(choice)
        gain = prior[:, None] * design.T  # (1 + parts, networks)
        return np.asarray(gain @ np.linalg.solve(self._covariance(own, choice), self.ratios[own] - 1))

    def left_out_ratio(self, index: int) -> float:
        """measured / predicted of one network as the others tell it, their choice included."""
        others = np.delete(np.arange(len(self.ratios)), index)
        if not len(others):
            return 1.0
        unknown = self.fit(others, self.choose(others))
        return max(float((1 + self._design(np.array([index])) @ unknown)[0]), FACTORS[0])

    def _left_out_losses(self, own: NDArray[np.intp], choice: _Choice) -> Floats:
        """Squared error of each network left out, over its variance (GPML, eq. 5.12)."""
        inverse = np.linalg.inv(self._covariance(own, choice))
        left_out = (inverse @ (self.ratios[own] - 1)) / np.diag(inverse)
        return np.asarray(left_out**2 / self._noise_variances(own))

    def _covariance(self, own: NDArray[np.intp], choice: _Choice) -> Floats:
        design = self._design(own)
        signal = (design * self._prior_variances(choice)) @ design.T
        return np.asarray(signal + np.diag(self._noise_variances(own)))

    def _design(self, own: NDArray[np.intp]) -> Floats:
        return np.column_stack([np.ones(len(own)), self.shares[own]])

    def _noise_variances(self, own: NDArray[np.intp]) -> Floats:
        return np.asarray(self.error**2 + self.noise[own] ** 2)

    def _prior_variances(self, choice: _Choice) -> Floats:
        everything = max(self.error, DRIFT) ** 2 if choice.everything else 0.0
        kinds = np.full(self.shares.shape[1], (choice.kinds * self.error) ** 2)
        return np.append(everything, kinds)


def _parts(table: LatencyTable, networks: Sequence[Sequence[OpSpec]]) -> tuple[str, ...]:
    """What can be told apart: the kinds that these networks have, or the features."""
    if table.coefficients is not None:
        return table.coefficients.names
    return tuple(sorted({op.kind for ops in networks for op in ops}))


def _shares(
    table: LatencyTable,
    networks: Sequence[Sequence[OpSpec]],
    names: Sequence[str],
    predicted: Floats,
) -> Floats:
    """The share of each part in each prediction, shape (networks, parts): what doubling it adds."""
    doubled = [scaled_table(table, 1.0, {name: 2.0}) for name in names]
    more = [[other.predict_ops(ops).value for other in doubled] for ops in networks]
    return np.asarray(more) / predicted[:, None] - 1


def scaled_table(
    table: LatencyTable, factor: float, factors: Mapping[str, float] = MappingProxyType({})
) -> LatencyTable:
    """The table with everything times `factor`, but each part in `factors` times its own."""
    if table.coefficients is not None:
        known = table.coefficients
        return dataclasses.replace(
            table,
            coefficients=Coefficients(
                tuple(
                    value * factors.get(name, factor)
                    for name, value in zip(known.names, known.values, strict=True)
                ),
                offset_ms=known.offset_ms * factor,
            ),
        )
    calibration = table.calibration
    kinds = dict.fromkeys([*calibration.scales, *factors])
    return dataclasses.replace(
        table,
        calibration=dataclasses.replace(
            calibration,
            scales={
                kind: calibration.scales.get(kind, calibration.common_scale) * factors.get(kind, factor)
                for kind in kinds
            },
            common_scale=calibration.common_scale * factor,
            offset_ms=calibration.offset_ms * factor,
            per_op_ms=calibration.per_op_ms * factor,
            cold_ms_per_mib=calibration.cold_ms_per_mib * factor,
        ),
    )


def _factors(unknown: Floats, names: Sequence[str]) -> tuple[float, dict[str, float]]:
    low, high = FACTORS
    factor = float(np.clip(1 + unknown[0], low, high))
    own = {
        name: float(np.clip(1 + unknown[0] + value, low, high))
        for name, value in zip(names, unknown[1:], strict=False)
    }
    return factor, own


def _heldout(
    table: LatencyTable, labels: Sequence[str], measured: Floats, left_out: Floats, *, corrected: bool
) -> HeldOut:
    """What the interval comes from; see `correct_table`."""
    later = tuple(
        HeldOutNetwork(label, measured_ms=float(ms), predicted_ms=float(predicted))
        for label, ms, predicted in zip(labels, measured, left_out, strict=True)
    )
    told = f"{len(later)} networks measured later, each predicted from the others"
    if (corrected and len(later) >= OWN_INTERVALS_FROM) or not table.heldout:
        return HeldOut(later, method=told, fresh_std=table.heldout.fresh_std)
    return dataclasses.replace(
        table.heldout,
        networks=(*table.heldout.networks, *later),
        method=f"{table.heldout.method}; {told}",
    )
