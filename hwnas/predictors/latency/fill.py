"""A cost model per family of ops, for the ops of a table that were never measured.

Two steps: non-negative coefficients on the op's features (relative least squares), then a
correction from the nearest measured ops of the family, smoothed in log-feature space: vector units
make latency a bumpy function of width that no six coefficients follow. How far the correction
reaches is chosen by leaving each measured op out; that error is reported and goes with each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.predictors.latency.features import op_family, op_features
from hwnas.space.ops import OpSpec
from hwnas.types import Floats

__all__ = ["FillModel", "fit_fill"]

_REACHES = (0.05, 0.1, 0.2, 0.4, 0.8, np.inf)
_FEW = 5


@dataclass(frozen=True, slots=True)
class _FamilyModel:
    """The two steps for one family of ops."""

    weights: Floats  # (7,): six features and a constant
    places: Floats  # (n, d): measured ops in log-feature space
    residuals: Floats  # (n,): log(measured / the coefficients' answer)
    reach: float
    error: float

    def predict_ms(self, rows: Floats, places: Floats) -> Floats:
        """Milliseconds of ops, from features (m, 7) and places (m, d)."""
        base = np.maximum(rows @ self.weights, 1e-6)
        return np.asarray(base * np.exp(_smoothed(places, self.places, self.residuals, self.reach)))


@dataclass(frozen=True, slots=True)
class FillModel:
    """Says what an op that was never measured takes."""

    families: Mapping[str, _FamilyModel]
    """A model for each family with enough rows, for each kind ("any ffn"), and '' for the rest."""

    @property
    def errors(self) -> dict[str, float]:
        """Mean relative error by family, each measured op predicted from the others."""
        return {family: model.error for family, model in self.families.items()}

    def predict_ms(self, op: OpSpec) -> tuple[float, float]:
        """Milliseconds of the op alone, and the relative error to expect."""
        names = (op_family(op), _any(op))
        model = next((self.families[name] for name in names if name in self.families), self.families[""])
        value = model.predict_ms(_rows([op]), _places([op]))[0]
        return float(value), model.error


def fit_fill(ops: Sequence[OpSpec], measured_ms: Sequence[float]) -> FillModel:
    """Fits the cost model on measured ops, each alone. Needs at least one; raises ValueError."""
    if not ops:
        raise ValueError("a cost model needs measured ops, got none")
    measured = np.asarray(measured_ms, dtype=float)
    families = {"": _fit_family(list(ops), measured)}
    for name in sorted({name for op in ops for name in (op_family(op), _any(op))}):
        own = [index for index, op in enumerate(ops) if name in (op_family(op), _any(op))]
        if len(own) >= _FEW:
            families[name] = _fit_family([ops[index] for index in own], measured[own])
    return FillModel(families)


def _any(op: OpSpec) -> str:
    """The name of the model for all families of the op's kind."""
    return f"any {op.kind}"


def _fit_family(ops: list[OpSpec], measured: Floats) -> _FamilyModel:
    rows, places = _rows(ops), _places(ops)
    weights = _coefficients(rows, measured)
    if len(ops) < _FEW:
        base = np.maximum(rows @ weights, 1e-6)
        residuals = np.log(measured / base)
        error = float(np.abs(base / measured - 1).mean()) or 1.0
        return _FamilyModel(weights, places, residuals, np.inf, error)
    # The coefficients are refitted without each op in turn: their own fit must not see it.
    left_out = np.empty(len(ops))
    for index in range(len(ops)):
        others = _coefficients(np.delete(rows, index, 0), np.delete(measured, index))
        left_out[index] = np.log(measured[index] / max(float(rows[index] @ others), 1e-6))
    residuals = np.log(measured / np.maximum(rows @ weights, 1e-6))
    errors = {}
    for reach in _REACHES:
        correction = _smoothed(places, places, residuals, reach, leave_out_self=True)
        errors[reach] = float(np.abs(np.exp(correction - left_out) - 1).mean())
    reach = min(errors, key=lambda candidate: errors[candidate])
    return _FamilyModel(weights, places, residuals, reach, errors[reach])


def _coefficients(rows: Floats, measured: Floats) -> Floats:
    from scipy.optimize import nnls

    scale = np.maximum(np.abs(rows).max(axis=0), 1e-30)
    solved, _ = nnls(rows / scale / measured[:, None], np.ones_like(measured))
    return np.asarray(solved / scale, dtype=float)


def _smoothed(
    at: Floats, places: Floats, residuals: Floats, reach: float, *, leave_out_self: bool = False
) -> Floats:
    """Residuals near each place, shape (m,), drawn to 0 where none is near."""
    if not np.isfinite(reach):
        return np.zeros(len(at))
    distances = ((at[:, None, :] - places[None, :, :]) ** 2).sum(axis=2)
    weights = np.exp(-distances / (2 * reach**2))
    if leave_out_self:
        np.fill_diagonal(weights, 0.0)
    return np.asarray(weights @ residuals / (weights.sum(axis=1) + 0.05), dtype=float)


def _rows(ops: Sequence[OpSpec]) -> Floats:
    """Features and a constant, shape (n, 7)."""
    return np.array([np.append(op_features(op), 1.0) for op in ops])


def _places(ops: Sequence[OpSpec]) -> Floats:
    """Where ops are near each other, shape (n, 8): log features, log width and log side."""
    return np.array(
        [np.append(np.log1p(op_features(op)), np.log([op.in_shape[0], op.in_shape[1]])) for op in ops]
    )
