"""TableContent: what a latency table's file holds - rows or coefficients, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwnas.errors import UsageError
from hwnas.predictors.latency.calibration import Calibration
from hwnas.predictors.latency.caveats import caveats
from hwnas.predictors.latency.features import COEFFICIENT_NAMES, FEATURE_NAMES, coefficient_features
from hwnas.predictors.latency.heldout import HeldOut
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.space.ops import OpSpec

__all__ = ["PROVENANCES", "Coefficients", "Row", "TableContent"]

PROVENANCES = ("measured", "transferred", "estimated")
"""`measured`: on the board itself, op by op. `transferred`: from a few whole networks measured on the board
and the tables of others. `estimated`: fitted on published figures."""


@dataclass(frozen=True, slots=True)
class Row:
    """One op of a table, timed alone (or filled in by a cost model)."""

    ms: float
    low_ms: float
    """Fastest of the passes' medians; for a filled row, the lower end of its error."""
    high_ms: float
    """Slowest of the passes' medians; for a filled row, the upper end of its error."""
    p95_ms: float | None = None
    """95th percentile of single repeats; None for a filled row."""
    filled: bool = False
    """Whether the row comes from a cost model fitted on the measured ones."""
    disturbed: bool = False
    """Whether it was still throttled or disturbed when it was last measured."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A table without rows: milliseconds are linear in an op's features."""

    values: tuple[float, ...]
    """One per name in FEATURE_NAMES, or in COEFFICIENT_NAMES; milliseconds per unit, none negative."""
    offset_ms: float = 0.0
    """Once a network."""

    def __post_init__(self) -> None:
        if len(self.values) not in (len(FEATURE_NAMES), len(COEFFICIENT_NAMES)):
            raise ValueError(f"there must be {len(FEATURE_NAMES)} coefficients, got {len(self.values)}")
        if not all(np.isfinite(value) and value >= 0 for value in (*self.values, self.offset_ms)):
            raise ValueError(f"coefficients must be finite and at least 0, got {self.values}")

    @property
    def names(self) -> tuple[str, ...]:
        """The feature of each value."""
        return COEFFICIENT_NAMES[: len(self.values)]

    def op_ms(self, op: OpSpec) -> float:
        """What the op adds to a network."""
        return float(coefficient_features(op)[: len(self.values)] @ np.asarray(self.values))


@dataclass(frozen=True, slots=True)
class TableContent:
    """One device profile with measured rows or fitted coefficients: exactly one of the two is there."""

    name: str
    profile: DeviceProfile
    provenance: str
    """One of PROVENANCES."""
    rows: Mapping[str, Row] = field(default_factory=dict)
    """By op key."""
    coefficients: Coefficients | None = None
    calibration: Calibration = Calibration()
    """From rows to networks; coefficients need none."""
    heldout: HeldOut = HeldOut()
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What it was measured on: plain data."""
    measurement: Mapping[str, Any] = field(default_factory=dict)
    """How it was measured or fitted, and the noise seen: plain data."""
    notes: tuple[str, ...] = ()
    """What a reader must know: what it was fitted on, what was left out and why."""
    created: str = ""
    """Date, as 2026-11-21."""

    def __post_init__(self) -> None:
        if self.provenance not in PROVENANCES:
            raise UsageError(f"provenance must be one of {', '.join(PROVENANCES)}, got '{self.provenance}'")
        if bool(self.rows) == (self.coefficients is not None):
            raise UsageError("a table has either rows or coefficients, and one of the two")

    @property
    def caveats(self) -> tuple[str, ...]:
        """What limits the use of its predictions: sentences that every output of one shows."""
        return caveats(self.provenance, self.measurement)

    @property
    def filled(self) -> tuple[str, ...]:
        """Keys of rows that a cost model filled in."""
        return tuple(key for key, row in self.rows.items() if row.filled)

    @property
    def disturbed(self) -> tuple[str, ...]:
        """Keys of rows that were throttled or disturbed when measured."""
        return tuple(key for key, row in self.rows.items() if row.disturbed)
