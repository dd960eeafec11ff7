"""EnergyModel: millijoules of a network on one device, fitted to networks whose energy was measured there.

A table has one only where its board reports energy (`hwnas table energy`); nothing is inferred from
milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.errors import FileFormatError, UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.latency.features import FEATURE_NAMES, features, op_features
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower
from hwnas.types import Floats

__all__ = ["FEWEST", "EnergyModel", "fit_energy"]

FEWEST = 10
"""Networks without which six coefficients say nothing."""


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Energy of one run, the whole batch, linear in the features of a network's ops."""

    values: tuple[float, ...]
    """Millijoules per unit of each of FEATURE_NAMES, none negative."""
    heldout: HeldOut
    """Measured networks, each predicted by a fit without it; here in millijoules."""
    meter: str
    """What was read: `rapl`, `ina3221`, `tegrastats`."""

    def op_mj(self, op: OpSpec) -> float:
        """What the op adds to a network."""
        return float(op_features(op) @ np.asarray(self.values))

    def predict_ops(self, ops: Sequence[OpSpec]) -> Estimate:
        """Millijoules of the network that runs these ops, with a 90 % interval."""
        return self.estimate(sum(map(self.op_mj, ops)))

    def estimate(self, mj: float) -> Estimate:
        """A predicted number of millijoules with its interval."""
        factor = self.heldout.factor()
        return Estimate(mj, mj * self.heldout.log_std, mj / factor, mj * factor, "mJ")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a table's `measurement.energy` holds it."""
        return {
            "meter": self.meter,
            "mj_per_unit": dict(zip(FEATURE_NAMES, self.values, strict=True)),
            "leave_one_out_mape_percent": self.heldout.mape_percent,
            "networks": [[one.label, one.measured_ms, one.predicted_ms] for one in self.heldout.networks],
        }

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> EnergyModel:
        """What `to_dict` gave; raises FileFormatError for anything else."""
        try:
            values = tuple(float(data["mj_per_unit"][name]) for name in FEATURE_NAMES)
            networks = tuple(
                HeldOutNetwork(str(label), float(measured), float(predicted))
                for label, measured, predicted in data["networks"]
            )
            positive = all(0 < mj < np.inf for one in networks for mj in (one.measured_ms, one.predicted_ms))
            if not (positive and all(0 <= value < np.inf for value in values) and any(values)):
                raise ValueError("energies must be positive and finite")
            return cls(values, HeldOut(networks, "leave-one-out"), str(data["meter"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{source}: measurement.energy is damaged: {error!r}") from None


def fit_energy(archs: Mapping[str, ArchSpec], measured_mj: Mapping[str, float], *, meter: str) -> EnergyModel:
    """The model of measured networks, by non-negative least squares on relative errors.

    Raises UsageError for fewer than FEWEST networks.
    """
    if len(measured_mj) < FEWEST:
        raise UsageError(f"an energy model needs at least {FEWEST} measured networks, got {len(measured_mj)}")
    labels = list(measured_mj)
    columns = np.array([list(features(lower(archs[label])).values()) for label in labels])
    energies = np.array([measured_mj[label] for label in labels])
    left_out = [
        float(columns[at] @ _solved(np.delete(columns, at, axis=0), np.delete(energies, at)))
        for at in range(len(labels))
    ]
    known = zip(labels, energies.tolist(), left_out, strict=True)
    return EnergyModel(
        tuple(float(f"{value:.4g}") for value in _solved(columns, energies)),
        HeldOut(tuple(HeldOutNetwork(*one) for one in known), "leave-one-out"),
        meter,
    )


def _solved(columns: Floats, energies: Floats) -> Floats:
    """(6,) coefficients."""
    from scipy.optimize import nnls

    relative = columns / energies[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(relative / scale, np.ones(len(energies)))
    return np.asarray(solution / scale)
