"""CellRecord: what one timing of one cell gave, checked where it comes from the board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.measure.remote.answers import Fields

__all__ = ["KINDS", "CellRecord"]

KINDS = ("op", "network")


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One cell, timed once in turns with the reference network."""

    kind: str
    """One of KINDS."""
    cell: str
    """An op's key, or a network's label."""
    pass_number: int
    process: int
    """Counts the fresh processes of a build."""
    median_ms: float
    reach: float
    """How well the median is known, relative."""
    p95_ms: float
    reference_ms: float
    """The reference network's median beside it."""
    samples_ns: tuple[float, ...]
    reference_ns: tuple[float, ...]
    cold_ns: tuple[float, ...]
    """First runs of each turn."""
    warmup_ns: tuple[float, ...]
    runs_per_repeat: int
    steady: bool
    """Whether the warm-up became steady."""
    cpu_share: float
    throttled: tuple[str, ...]

    @classmethod
    def of_answer(
        cls, answer: Mapping[str, Any], *, kind: str, cell: str, pass_number: int, process: int
    ) -> CellRecord:
        """The record of a board's answer.

        Raises BoardError, with the field, when one is missing, no finite number, or not above 0.
        """
        reader = Fields(answer, cell)
        return cls(
            kind=kind,
            cell=cell,
            pass_number=pass_number,
            process=process,
            median_ms=reader.number("median_ms", above_0=True),
            reach=reader.number("reach"),
            p95_ms=reader.number("p95_ms", above_0=True),
            reference_ms=reader.number("reference_ms", above_0=True),
            samples_ns=reader.numbers("samples_ns"),
            reference_ns=reader.numbers("reference_ns"),
            cold_ns=reader.numbers("cold_ns"),
            warmup_ns=reader.numbers("warmup_ns"),
            runs_per_repeat=int(reader.number("runs_per_repeat", above_0=True)),
            steady=bool(reader.value("steady")),
            cpu_share=reader.number("cpu_share"),
            throttled=tuple(map(str, reader.items("throttled"))),
        )

    def to_dict(self) -> dict[str, Any]:
        """A line of the samples file."""
        return {
            "pass": self.pass_number,
            "process": self.process,
            "cell": self.cell,
            "median_ms": self.median_ms,
            "reach": self.reach,
            "p95_ms": self.p95_ms,
            "reference_ms": self.reference_ms,
            "samples_ns": list(self.samples_ns),
            "reference_ns": list(self.reference_ns),
            "cold_ns": list(self.cold_ns),
            "warmup_ns": list(self.warmup_ns),
            "runs_per_repeat": self.runs_per_repeat,
            "steady": self.steady,
            "cpu_share": self.cpu_share,
            "throttled": list(self.throttled),
        }
