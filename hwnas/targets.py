"""Target: a latency budget on a device. Promise: the targets that a network was searched for.

A promise travels with a network: from its run to the checkpoint, the model card and the exported file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Promise", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A latency budget on one device."""

    device: str
    """Name of a latency table, or a table's file; several of one board are joined by commas."""
    budget_ms: float
    confidence: float | None = None
    """Probability with which the latency is within the budget; None compares the prediction itself."""
    budget_on: str = "p50"
    """`p50`: the latency. `p95`: the 95th percentile of single inferences."""

    def __str__(self) -> str:
        """`20 ms on rpi4`."""
        tail = " (p95)" if self.budget_on == "p95" else ""
        return f"{self.budget_ms:g} ms on {self.device.replace(',', ' or ')}{tail}"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a search found a network for."""

    targets: tuple[Target, ...]
    run: str = ""
    """Name of the run directory; empty when unknown."""
    network: str = ""
    """Id of the architecture that the search found. Another id is a changed network."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as checkpoints and model cards hold it."""
        return {
            "run": self.run,
            "network": self.network,
            "targets": [dataclasses.asdict(target) for target in self.targets],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Promise | None:
        """What `to_dict` wrote; None stays None (networks without a run, files of earlier versions).

        Raises KeyError, TypeError or ValueError for anything else.
        """
        if data is None:
            return None
        targets = tuple(
            Target(
                device=str(one["device"]),
                budget_ms=float(one["budget_ms"]),
                confidence=None if one["confidence"] is None else float(one["confidence"]),
                budget_on=str(one["budget_on"]),
            )
            for one in data["targets"]
        )
        return cls(targets, run=str(data["run"]), network=str(data["network"]))
