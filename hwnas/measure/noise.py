"""How noisy a build was: what marks its table as noisy, and what makes it useless."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas import metrics
from hwnas.errors import UnstableError
from hwnas.measure.cells import Timing

__all__ = ["Noise", "noise_of"]

NOISY_SPREAD = 0.05
"""A table whose whole networks differ more than this between processes, in the median, is marked noisy."""
NOISY_DISTURBED = 0.1
"""So is one with a larger share of cells that stay disturbed."""
USELESS_SPREAD = 0.25
"""Networks that differ more than this between processes make no table,"""
USELESS_SPEARMAN = 0.9
"""nor do networks whose order two processes agree on less than this."""
RANKED_FROM = 8
"""Networks below which their order says nothing."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a build, as measured."""

    network_spread: float | None
    """(slowest - fastest) / median between processes, of whole networks, in the median; None with one "
    "pass."""
    spearman: float | None
    """Rank correlation of whole networks between two passes, in the median of all pairs; None where "
    "unknown."""
    disturbed: int
    """Cells that stayed disturbed."""
    cells: int

    @property
    def reason(self) -> str:
        """Why its table is noisy, in words; empty where it is not."""
        reasons = []
        if self.network_spread is not None and self.network_spread > NOISY_SPREAD:
            reasons.append(
                f"whole networks differed by {self.network_spread:.1%} between processes in the median, "
                f"{NOISY_SPREAD:.0%} or less are usual"
            )
        if self.disturbed > NOISY_DISTURBED * self.cells:
            reasons.append(
                f"{self.disturbed} of {self.cells} cells stayed disturbed by other programs or heat"
            )
        return " and ".join(reasons)

    def facts(self) -> dict[str, Any]:
        """What the table's file records; `noisy` only where it is."""
        facts: dict[str, Any] = {
            "disturbed_cells": self.disturbed,
            "network_spread_percent": None if self.network_spread is None else 100 * self.network_spread,
            "pass_spearman": self.spearman,
        }
        if self.reason:
            facts["noisy"] = {"spread_percent": facts["network_spread_percent"], "reason": self.reason}
        return facts

    def refuse_useless(self) -> None:
        """Raises UnstableError, with the figures, where no table can come of it."""
        told = []
        if self.network_spread is not None and self.network_spread > USELESS_SPREAD:
            told.append(
                f"whole networks differ by {self.network_spread:.1%} between processes in the median, "
                f"{USELESS_SPREAD:.0%} allowed"
            )
        if self.spearman is not None and self.spearman < USELESS_SPEARMAN:
            told.append(
                f"two processes rank the networks with a correlation of {self.spearman:.2f}, "
                f"{USELESS_SPEARMAN:g} needed"
            )
        if told:
            raise UnstableError(
                f"the machine is too noisy for a table: {'; '.join(told)}. End other programs or fix the CPU "
                "governor, then continue with more --minutes"
            )


def noise_of(measured: Mapping[str, Timing], networks: Sequence[str]) -> Noise:
    """The noise of these cells; `networks` are the labels of the whole networks among them."""
    timed = [measured[label] for label in networks if label in measured]
    repeated = [timing for timing in timed if len(timing.passes) > 1]
    return Noise(
        network_spread=float(np.median([timing.spread for timing in repeated])) if repeated else None,
        spearman=_spearman(repeated),
        disturbed=sum(timing.disturbed for timing in measured.values()),
        cells=len(measured),
    )


def _spearman(timed: Sequence[Timing]) -> float | None:
    by_pass = [dict(zip(timing.passes, timing.passes_ms, strict=True)) for timing in timed]
    numbers = sorted({number for passes in by_pass for number in passes})
    found = []
    for first, second in itertools.combinations(numbers, 2):
        both = [(passes[first], passes[second]) for passes in by_pass if first in passes and second in passes]
        if len(both) >= RANKED_FROM:
            found.append(metrics.spearman(*zip(*both, strict=True)))
    known = [value for value in found if value is not None]
    return float(np.median(known)) if known else None
