"""Candidate: one network that a search evaluated, and its line in the record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from hwnas.errors import FileFormatError
from hwnas.estimate import Estimate
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

__all__ = ["Candidate", "Trial", "estimate_fields", "estimate_from"]


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
    configuration: str = ""
    """The latency table that latency and accuracy are of, where a search chooses among several."""

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
            **estimate_fields("latency{}_ms", self.latency),
            **estimate_fields("accuracy{}", self.accuracy),
            "params": self.params,
            "macs": self.macs,
        }
        if self.also:
            data["also"] = {
                name: {"value": one.value, "std": one.std, "low": one.low, "high": one.high, "unit": one.unit}
                for name, one in self.also.items()
            }
        if self.configuration:
            data["configuration"] = self.configuration
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
                latency=estimate_from(data, "latency{}_ms", "ms"),
                accuracy=estimate_from(data, "accuracy{}", accuracy_unit),
                params=int(data["params"]),
                macs=int(data["macs"]),
                notes=dict(data.get("notes", {})),
                also={str(name): _also_from(one) for name, one in data.get("also", {}).items()},
                configuration=str(data.get("configuration", "")),
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
    def configuration(self) -> str:
        """The latency table that it is on the front with, where a search chooses among several."""
        return self.trial.configuration

    @property
    def attentions(self) -> tuple[str, ...]:
        """The attention types among its blocks, each once, in the order of first use."""
        blocks = (block for stage in self.arch.stages for block in stage.blocks)
        return tuple(dict.fromkeys(block.type for block in blocks if block is not None))


def estimate_fields(form: str, estimate: Estimate | None) -> dict[str, float | None]:
    """An estimate as plain data; "latency{}_ms" gives `latency_ms`, `latency_std_ms`, `latency_low_ms` and
    `latency_high_ms`. All are None without an estimate.

    This is its form in every file of a run and in `search --json`.
    """
    fields = _fields(form)
    if estimate is None:
        return dict.fromkeys(fields)
    return dict(zip(fields, (estimate.value, estimate.std, estimate.low, estimate.high), strict=True))


def estimate_from(data: Any, form: str, unit: str) -> Estimate:
    """The estimate that `estimate_fields` wrote; raises KeyError, TypeError or ValueError without one.

    Files of before hold the four numbers as one list, under the first field's name.
    """
    fields = _fields(form)
    first = data[fields[0]]
    return _estimate(first if isinstance(first, list) else [data[field] for field in fields], unit)


@lru_cache
def _fields(form: str) -> list[str]:
    return [form.format(part) for part in ("", "_std", "_low", "_high")]


def _also_from(data: Any) -> Estimate:
    """One value of `also`; files of before hold it as a list, its unit last."""
    if isinstance(data, list):
        return _estimate(data[:4], str(data[4]))
    return _estimate([data["value"], data["std"], data["low"], data["high"]], str(data["unit"]))


def _estimate(numbers: Any, unit: str) -> Estimate:
    value, std, low, high = (None if number is None else float(number) for number in numbers)
    if (
        value is None
        or std is None
        or not all(math.isfinite(n) for n in (value, std, low, high) if n is not None)
    ):
        raise ValueError(f"the numbers of an estimate must be finite, got {numbers!r}"[:200])
    if std < 0:
        raise ValueError(f"the standard deviation of an estimate must be at least 0, got {std:g}")
    if low is not None and high is not None and low > high:
        raise ValueError(f"the interval of an estimate must be ordered, got {low:g} to {high:g}")
    return Estimate(value, std, low, high, unit)
