"""Verification: what measuring a run's front on the device said, as the run directory keeps it.

`verification.json` is written whole after every few networks: an interruption loses at most those.
A front that was verified holds measured networks only; it stands for the run's front as long as the
run has no further candidates.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, stdev
from typing import Any

from hwnas.errors import FileFormatError
from hwnas.estimate import Estimate
from hwnas.io import json as json_io
from hwnas.io.atomic import write_atomically
from hwnas.predictors.latency.measurements import MOST_CPU_SHARE, MOST_MS
from hwnas.search.trial import estimate_fields, estimate_from

__all__ = ["VERIFICATION", "Corrected", "MeasuredCandidate", "Stage", "Verification", "read_verification"]

VERIFICATION = "verification.json"
SCHEMA = 2
# 1: an estimate as one list of four numbers; 2: a field for each, and a checksum. `stages` may be missing.

MEDIAN_OF_THREE = 0.833
"""The median of the standard deviation of three normal draws, in parts of the true one: sqrt(ln 2)."""


@dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """One network of the run, measured."""

    id: str
    """`ArchSpec.id` of the network."""
    round: int
    """The round of the verification that measured it, from 1; those of the search's stages come first."""
    rounds_ms: tuple[float, ...]
    """What each fresh process measured."""
    p95_ms: float
    """95th percentile of single runs."""
    cpu_share: float
    """The least share of the CPU that a process got."""
    predicted: Estimate
    """What the table said before it was corrected."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """How the table was corrected with what was measured."""

    method: str
    """`none`, `one factor` or `per kind`; see `hwnas.predictors.latency.correction`."""
    factor: float
    """What everything was multiplied with."""
    factors: Mapping[str, float]
    """By op kind, for `per kind`."""
    mape_before_percent: float
    """Mean absolute error of the table as it was, on all networks measured."""
    mape_after_percent: float
    """The same of the corrected one, each network predicted by a correction made from the others."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What was measured within the search after one of its stages (see `hwnas.search.verify_during`)."""

    measured: int
    """Networks measured in it: their intervals contained the budget."""
    within: int
    """How many of them were within the budget."""
    correction: Corrected | None
    """Of the table as it was, by all networks measured so far; None before anything is measured."""


@dataclass(frozen=True, slots=True)
class Verification:
    """All that was measured of a run's front, and the front that is left."""

    most: int
    """The most networks of the front that are measured in a round."""
    candidates: int
    """How many candidates the run had: with more of them the front may be another one."""
    profile: Mapping[str, Any]
    """What it was measured in: plain data of a DeviceProfile."""
    environment: Mapping[str, Any]
    """What it was measured on: plain data."""
    started: str
    """UTC, ISO 8601."""
    finished: str = ""
    """UTC, ISO 8601; empty while it is not finished."""
    mismatch: bool = False
    """Whether it was allowed to measure in another configuration, or on another board, than the table's."""
    measured: tuple[MeasuredCandidate, ...] = ()
    """In the order in which they were measured."""
    correction: Corrected | None = None
    """None before anything is measured."""
    corrected: Mapping[str, Estimate] = field(default_factory=dict)
    """The corrected table's prediction of each network measured, by id."""
    front: tuple[str, ...] = ()
    """Ids of the networks on the verified front, best accuracy first; all are measured."""
    stages: tuple[Stage, ...] = ()
    """Of the search, if it measured meanwhile: the rounds 1 to len(stages) are theirs."""

    @property
    def is_complete(self) -> bool:
        return bool(self.finished)

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return max((one.round for one in self.measured), default=0)

    @property
    def latencies(self) -> dict[str, Estimate]:
        """Measured milliseconds by id: the median of the processes.

        The standard deviation is that of one process: a network's own, or the usual one of all networks
        where that is larger, since three processes say little. Low and high are 90 % of a log-normal.
        """
        if not self.measured:
            return {}
        logs = {one.id: [math.log(ms) for ms in one.rounds_ms] for one in self.measured}
        own = {name: stdev(values) if len(values) > 1 else 0.0 for name, values in logs.items()}
        usual = median(own.values()) / MEDIAN_OF_THREE
        found = {}
        for one in self.measured:
            ms = median(one.rounds_ms)
            spread = max(own[one.id], usual)
            reach = math.exp(1.645 * spread)
            found[one.id] = Estimate(ms, ms * spread, ms / reach, ms * reach, "ms")
        return found

    def within(self, budget_ms: float, *, round: int | None = None) -> tuple[int, int]:
        """How many networks were measured within the budget, and of how many; in one round or in all."""
        latencies = self.latencies
        asked = [one for one in self.measured if round is None or one.round == round]
        return sum(latencies[one.id].value <= budget_ms for one in asked), len(asked)

    def write(self, folder: Path) -> None:
        """Writes `verification.json`, whole or not at all; raises HwnasError when it cannot."""
        write_atomically(folder / VERIFICATION, json_io.sealed(self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "schema": SCHEMA,
            "most": self.most,
            "candidates": self.candidates,
            "started": self.started,
            "finished": self.finished,
            "mismatch": self.mismatch,
            "profile": dict(self.profile),
            "environment": dict(self.environment),
            "correction": None if self.correction is None else dataclasses.asdict(self.correction),
            "front": list(self.front),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "measured": [
                {
                    "id": one.id,
                    "round": one.round,
                    "rounds_ms": list(one.rounds_ms),
                    "p95_ms": one.p95_ms,
                    "cpu_share": one.cpu_share,
                    **estimate_fields("predicted{}_ms", one.predicted),
                    **estimate_fields("corrected{}_ms", self.corrected.get(one.id)),
                }
                for one in self.measured
            ],
        }

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> Verification:
        """What `to_dict` wrote; raises FileFormatError naming `source`."""
        schema = data.get("schema") if isinstance(data, dict) else None
        if type(schema) is int and schema > SCHEMA:
            raise FileFormatError(f"{source}: schema {schema} is of a newer hwnas: upgrade hwnas to read it")
        if type(schema) is not int or schema < 1:
            raise FileFormatError(f"{source}: the schema must be from 1 to {SCHEMA}, got {schema!r}")
        try:
            json_io.require_checksum(data, has_one=schema > 1)
            return cls(
                most=int(data["most"]),
                candidates=int(data["candidates"]),
                profile=dict(data["profile"]),
                environment=dict(data["environment"]),
                started=str(data["started"]),
                finished=str(data["finished"]),
                mismatch=bool(data["mismatch"]),
                measured=tuple(map(_measured, data["measured"])),
                correction=_corrected(data["correction"]),
                corrected={
                    str(one["id"]): estimate_from(one, "corrected{}_ms", "ms")
                    for one in data["measured"]
                    if one["corrected_ms"] is not None
                },
                front=tuple(str(name) for name in data["front"]),
                stages=tuple(
                    Stage(int(one["measured"]), int(one["within"]), _corrected(one["correction"]))
                    for one in data.get("stages", ())
                ),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FileFormatError(
                f"{source}: not a verification of a run: {error!r}. Delete the file to verify again"
            ) from None


def read_verification(folder: Path) -> Verification | None:
    """The verification in a run directory; None when there is none. Raises FileFormatError."""
    path = folder / VERIFICATION
    if not path.exists():
        return None
    try:
        data = json_io.read(path)
    except FileFormatError as error:
        raise FileFormatError(f"{error}. Delete the file to verify again") from None
    return Verification.from_dict(data, source=str(path))


def _corrected(data: Any) -> Corrected | None:
    if data is None:
        return None
    found = Corrected(**data)
    numbers = (found.mape_before_percent, found.mape_after_percent, found.factor, *found.factors.values())
    if not all(0 <= float(number) < MOST_MS for number in numbers) or not isinstance(found.method, str):
        raise ValueError(f"not a correction: {data!r}"[:200])
    return found


def _measured(data: Any) -> MeasuredCandidate:
    rounds_ms: Sequence[Any] = data["rounds_ms"]
    if not rounds_ms or not all(0 < float(ms) < MOST_MS for ms in rounds_ms):
        raise ValueError(f"rounds_ms must be positive times, got {rounds_ms!r}")
    if not 0 < float(data["p95_ms"]) < MOST_MS or not 0 <= float(data["cpu_share"]) <= MOST_CPU_SHARE:
        raise ValueError(f"p95_ms {data['p95_ms']!r} or cpu_share {data['cpu_share']!r} is out of range")
    predicted = estimate_from(data, "predicted{}_ms", "ms")
    if int(data["round"]) < 1 or not 0 < predicted.value < MOST_MS:
        raise ValueError(f"round {data['round']!r} or predicted_ms {data['predicted_ms']!r} is out of range")
    return MeasuredCandidate(
        id=str(data["id"]),
        round=int(data["round"]),
        rounds_ms=tuple(float(ms) for ms in rounds_ms),
        p95_ms=float(data["p95_ms"]),
        cpu_share=float(data["cpu_share"]),
        predicted=predicted,
    )
