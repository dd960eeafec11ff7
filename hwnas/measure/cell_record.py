"""CellRecord: what one timing of one cell gave, checked where it comes from the board."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.errors import BoardError

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
        reader = _Answer(answer, cell)
        return cls(
            kind=kind,
            cell=cell,
            pass_number=pass_number,
            process=process,
            median_ms=reader.number("median_ms", above_0=True),
            reach=reader.number("reach"),
            p95_ms=reader.number("p95_ms", above_0=True),
            reference_ms=reader.number("companion_ms", above_0=True),
            samples_ns=reader.numbers("samples_ns"),
            reference_ns=reader.numbers("companion_ns"),
            cold_ns=reader.numbers("cold_ns"),
            warmup_ns=reader.numbers("warmup_ns"),
            runs_per_repeat=int(reader.number("runs_per_repeat", above_0=True)),
            steady=bool(reader.value("steady")),
            cpu_share=reader.number("cpu_share"),
            throttled=tuple(map(str, reader.items("throttled"))),
        )

    def to_dict(self) -> dict[str, Any]:
        """A line of the samples file; the reference network is called the companion there."""
        return {
            "pass": self.pass_number,
            "process": self.process,
            "cell": self.cell,
            "median_ms": self.median_ms,
            "reach": self.reach,
            "p95_ms": self.p95_ms,
            "companion_ms": self.reference_ms,
            "samples_ns": list(self.samples_ns),
            "companion_ns": list(self.reference_ns),
            "cold_ns": list(self.cold_ns),
            "warmup_ns": list(self.warmup_ns),
            "runs_per_repeat": self.runs_per_repeat,
            "steady": self.steady,
            "cpu_share": self.cpu_share,
            "throttled": list(self.throttled),
        }


@dataclass(frozen=True, slots=True)
class _Answer:
    """Fields of what a board sent."""

    data: Mapping[str, Any]
    cell: str

    def value(self, name: str) -> Any:
        if name not in self.data:
            raise self._error(name, "is missing")
        return self.data[name]

    def number(self, name: str, *, above_0: bool = False) -> float:
        return self._checked(name, self.value(name), above_0=above_0)

    def numbers(self, name: str) -> tuple[float, ...]:
        return tuple(self._checked(name, value) for value in self.items(name))

    def items(self, name: str) -> list[Any]:
        value = self.value(name)
        if not isinstance(value, list):
            raise self._error(name, f"must be a list, got {value!r}")
        return value

    def _checked(self, name: str, value: Any, *, above_0: bool = False) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._error(name, f"must be a finite number, got {value!r}")
        if value < 0 or (above_0 and value == 0):
            raise self._error(name, f"must be {'above' if above_0 else 'at least'} 0, got {value!r}")
        return value

    def _error(self, name: str, what: str) -> BoardError:
        return BoardError(
            f"the board's answer for {self.cell} is damaged: {name} {what}. Start again; if it stays so, "
            "install hwnas on the board again"
        )
