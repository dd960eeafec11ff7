"""Question: what a search asks. Two runs may only be joined when they ask the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hwnas.errors import FileFormatError, UsageError

__all__ = ["Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that decides which candidates a search proposes and what they are worth."""

    device: str
    """Name of the latency table."""
    table_digest: str
    """Which content that table had."""
    provenance: str
    """`measured` or `estimated`: what its latencies are."""
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> Question:
        """The question that `to_dict` wrote; raises FileFormatError naming `source`."""
        names = [spec.name for spec in dataclasses.fields(cls)]
        missing = [name for name in names if not isinstance(data, dict) or name not in data]
        if missing:
            raise FileFormatError(f"{source}: a run must say its {', '.join(missing)}; it does not")
        return cls(**{name: data[name] for name in names})

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
