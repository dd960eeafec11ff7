"""Candidate: one network that a search evaluated, and its line in the record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hwnas.errors import FileFormatError
from hwnas.estimate import Estimate
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

__all__ = ["Candidate", "Trial", "estimate_from", "estimate_values"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is kept of an evaluated network: enough to choose by, a line in `candidates.jsonl`."""

    id: str
    """`ArchSpec.id` of the network."""
    vector: tuple[int, ...]
    """`SearchSpace.encode` of the network."""
    latency: Estimate
    """In ms."""
    accuracy: Estimate
    """In the estimator's unit, normally %."""
    params: int
    macs: int
    notes: dict[str, Any] = field(default_factory=dict)
    """What the engine's sampler wants to find again at a resume."""
    also: Mapping[str, Estimate] = field(default_factory=dict)
    """What else was bounded or minimised, by name: `latency DEVICE`, `p95`, `memory`."""

    def number(self, quantity: str) -> float:
        """The quantity of that name; raises KeyError when the search did not want it."""
        if quantity == "latency":
            return self.latency.value
        if quantity in ("params", "macs"):
            return float(getattr(self, quantity))
        return self.also[quantity].value

    def to_dict(self) -> dict[str, Any]:
        """Plain data for one line of the record."""
        data: dict[str, Any] = {
            "id": self.id,
            "vector": list(self.vector),
            "latency_ms": estimate_values(self.latency),
            "accuracy": estimate_values(self.accuracy),
            "params": self.params,
            "macs": self.macs,
        }
        if self.also:
            data["also"] = {
                name: [*estimate_values(estimate), estimate.unit] for name, estimate in self.also.items()
            }
        if self.notes:
            data["notes"] = self.notes
        return data

    @classmethod
    def from_dict(cls, data: Any, *, accuracy_unit: str, source: str) -> Trial:
        """The trial of a line; raises FileFormatError naming `source` when it is not one."""
        try:
            return cls(
                id=str(data["id"]),
                vector=tuple(int(value) for value in data["vector"]),
                latency=estimate_from(data["latency_ms"], "ms"),
                accuracy=estimate_from(data["accuracy"], accuracy_unit),
                params=int(data["params"]),
                macs=int(data["macs"]),
                notes=dict(data.get("notes", {})),
                also={
                    str(name): estimate_from(values[:4], str(values[4]))
                    for name, values in data.get("also", {}).items()
                },
            )
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{source}: not a candidate of a search: {error!r}") from None


@dataclass(frozen=True)
class Candidate:
    """A network on a front: its trial, and its architecture."""

    trial: Trial
    space: SearchSpace = field(repr=False, compare=False)
    measured: Estimate | None = None
    """In ms, as measured on the device when the run was verified; None when it was not."""
    corrected: Estimate | None = None
    """In ms, as the table corrected by the verification predicts it; None without one."""

    @cached_property
    def arch(self) -> ArchSpec:
        """The architecture, decoded when it is first used."""
        return self.space.decode(self.trial.vector)

    @property
    def id(self) -> str:
        """`ArchSpec.id` of the network."""
        return self.trial.id

    @property
    def latency(self) -> Estimate:
        """In ms, as the first target's table predicts it."""
        return self.trial.latency

    @property
    def accuracy(self) -> Estimate:
        """In the estimator's unit, normally %."""
        return self.trial.accuracy

    @property
    def params(self) -> int:
        return self.trial.params

    @property
    def macs(self) -> int:
        return self.trial.macs

    @property
    def also(self) -> Mapping[str, Estimate]:
        """What else was limited or minimised, by name; see `Trial.also`."""
        return self.trial.also

    @property
    def attentions(self) -> tuple[str, ...]:
        """The attention types among its blocks, each once, in the order of first use."""
        blocks = (block for stage in self.arch.stages for block in stage.blocks)
        return tuple(dict.fromkeys(block.type for block in blocks if block is not None))


def estimate_values(estimate: Estimate) -> list[float | None]:
    """An estimate as plain data: value, standard deviation, low, high."""
    return [estimate.value, estimate.std, estimate.low, estimate.high]


def estimate_from(values: Any, unit: str) -> Estimate:
    """The estimate that `estimate_values` wrote; raises TypeError or ValueError for anything else."""
    if not all(number is None or type(number) in (int, float) for number in values):
        raise TypeError(f"an estimate must hold numbers, got {values!r}"[:200])
    value, std, low, high = (None if number is None else float(number) for number in values)
    if (
        value is None
        or std is None
        or not all(math.isfinite(n) for n in (value, std, low, high) if n is not None)
    ):
        raise ValueError(f"the numbers of an estimate must be finite, got {values!r}"[:200])
    if std < 0:
        raise ValueError(f"the standard deviation of an estimate must be at least 0, got {std:g}")
    if low is not None and high is not None and low > high:
        raise ValueError(f"the interval of an estimate must be ordered, got {low:g} to {high:g}")
    return Estimate(value, std, low, high, unit)
