"""Question: what a search asks. Two runs may only be joined when they ask the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwnas.errors import FileFormatError, UsageError
from hwnas.targets import Target

__all__ = ["OtherDevice", "Question"]


@dataclass(frozen=True, slots=True)
class OtherDevice:
    """A device besides the first, and what a network may take there."""

    device: str
    table_digest: str
    provenance: str
    budget_ms: float

    def quantity(self, *, tail: bool) -> str:
        """The name of what is held against its budget, in a trial's `also`."""
        return f"{'p95' if tail else 'latency'} {self.device}"


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that decides which candidates a search proposes and what they are worth."""

    device: str
    """Name of the latency table."""
    table_digest: str
    """Which content that table had."""
    provenance: str
    """`measured`, `transferred` or `estimated`: what its latencies are."""
    budget_ms: float
    confidence: float | None
    """With which probability the latency must be within the budget; None: its value must be."""
    accuracy: str
    """Name of the accuracy estimator."""
    accuracy_unit: str
    sampler: str
    engine: str
    seed: int
    space: dict[str, Any]
    """The whole search space, as its file holds it."""
    budget_on: str = "p50"
    """What the budgets are held against: the latency, or `p95`, its tail."""
    others: tuple[OtherDevice, ...] = ()
    """Further devices that a network must run on within their own budgets."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """The most of `params`, `macs` and `memory` (bytes) that a network may have."""
    objectives: tuple[str, ...] = ()
    """What is minimised besides latency, of `params`, `macs` and `memory`."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices, in the order in which they were asked for."""
        return (self.device, *(other.device for other in self.others))

    @property
    def targets(self) -> tuple[Target, ...]:
        """The budget on each device, in the order in which they were asked for."""
        budgets = ((self.device, self.budget_ms), *((one.device, one.budget_ms) for one in self.others))
        return tuple(Target(device, ms, self.confidence, self.budget_on) for device, ms in budgets)

    @property
    def minimised(self) -> tuple[str, ...]:
        """Names of the quantities that the search minimises, as `Trial.number` takes them."""
        tail = self.budget_on == "p95"
        first = "p95" if tail else "latency"
        return (first, *(other.quantity(tail=tail) for other in self.others), *self.objectives)

    @property
    def within(self) -> str:
        """The bounds in words: `20 ms on rpi4, 8 ms on jetson-nano, params 6e+06`."""
        budgets = [(self.budget_ms, self.device), *((one.budget_ms, one.device) for one in self.others)]
        tail = " (p95)" if self.budget_on == "p95" else ""
        texts = [f"{ms:g} ms on {device}{tail}" for ms, device in budgets]
        return ", ".join(texts + [f"{name} {limit:g}" for name, limit in self.limits.items()])

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return data | {
            "others": [dataclasses.asdict(other) for other in self.others],
            "limits": dict(self.limits),
            "objectives": list(self.objectives),
        }

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> Question:
        """The question that `to_dict` wrote; raises FileFormatError naming `source`."""
        names = [spec.name for spec in dataclasses.fields(cls)]
        needed = [
            spec.name
            for spec in dataclasses.fields(cls)
            if spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        ]
        missing = [name for name in needed if not isinstance(data, dict) or name not in data]
        if missing:
            raise FileFormatError(f"{source}: a run must say its {', '.join(missing)}; it does not")
        given = {name: data[name] for name in names if name in data}
        try:
            others = tuple(OtherDevice(**other) for other in given.get("others", ()))
            limits = {str(name): float(limit) for name, limit in given.get("limits", {}).items()}
            objectives = tuple(map(str, given.get("objectives", ())))
        except (TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{source}: not the question of a search: {error!r}") from None
        return cls(**given | {"others": others, "limits": limits, "objectives": objectives})

    def must_equal(self, recorded: Question, *, run: str) -> None:
        """Raises UsageError that shows each difference between this question and the run's."""
        changed = [
            f"{spec.name} was {_shown(then)}, now {_shown(now)}"
            for spec in dataclasses.fields(self)
            if (now := getattr(self, spec.name)) != (then := getattr(recorded, spec.name))
        ]
        if changed:
            raise UsageError(
                f"a run is resumed with the question it was started with; {run} differs: "
                f"{'; '.join(changed)}. Leave these options out to resume it, or start a new run"
            )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
