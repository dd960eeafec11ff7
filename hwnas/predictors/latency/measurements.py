"""Measurements: what whole networks took on devices, kept in the folder of their run or training.

FOLDER/measurements.json holds one for each network and configuration, the newest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole
from hwnas.io.lock import Busy, beside, locked

__all__ = ["FILE", "GRAPH", "MOST_CPU_SHARE", "MOST_MS", "REFERENCE", "Measurement", "record", "recorded"]

FILE = "measurements.json"
FORMAT = 2  # 1: the first one; 2: has `graph` and a checksum
GRAPH, REFERENCE = "deployment 1", "reference"
"""Names of the graphs that networks are timed in: the one that `hwnas export` writes today (see FORMS in
`hwnas/export/deployment_graph.py`, which says when its number grows), and the published networks' own, which
measurements and tables that name no graph were made on."""
LOCK_WAIT_S = 60.0
MOST_MS = 1e9
"""A network that takes longer than 11 days was not measured."""
MOST_CPU_SHARE = 4096.0
"""Of one CPU: a process may have several."""

_NUMBERS = ("ms", "low_ms", "high_ms", "energy_mj")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A network timed on a device. Two of the same network and configuration replace each other."""

    network: str
    """The architecture's id."""
    ms: float
    """The median of the rounds, each in a process of its own, for the whole batch."""
    low_ms: float
    """The fastest round."""
    high_ms: float
    """The slowest round."""
    measured: str
    """When, as 2026-11-21T16:00:00Z."""
    board: str
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    batch: int
    precision: str
    graph: str = REFERENCE
    """What was timed: GRAPH of that day, REFERENCE, or `file` for an exported file as it is."""
    energy_mj: float | None = None
    """Energy of one run, the whole batch, in millijoules; None where the board does not report it."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is a measurement of."""
        return tuple(
            getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*_NUMBERS, "measured")
        )

    def to_dict(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        return data if self.energy_mj is not None else {k: v for k, v in data.items() if k != "energy_mj"}

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> Measurement:
        """The measurement that `to_dict` gave; raises FileFormatError for anything else."""
        try:
            found = cls(**data)
        except TypeError as error:
            raise FileFormatError(f"{source}: not a measurement: {error}") from None
        for field in dataclasses.fields(cls):
            value = getattr(found, field.name)
            if field.name == "energy_mj" and value is None:
                continue
            kinds = {"float": (int, float), "int": int, "str": str}[str(field.type).partition(" |")[0]]
            if not isinstance(value, kinds) or isinstance(value, bool):  # type: ignore[arg-type]
                raise FileFormatError(f"{source}: not a measurement: {field.name} is {value!r}")
        if found.energy_mj is not None and not 0 < found.energy_mj < MOST_MS:
            raise FileFormatError(f"{source}: not a measurement: energy_mj is {found.energy_mj!r}")
        times = found.low_ms, found.ms, found.high_ms
        if not (0 < times[0] <= times[1] <= times[2] < MOST_MS and found.threads > 0 and found.batch > 0):
            raise FileFormatError(
                f"{source}: not a measurement: times must be positive and ordered, got {times} ms "
                f"with {found.threads} threads and batch {found.batch}"
            )
        return found


def record(folder: Path, measurements: Sequence[Measurement]) -> Path:
    """Adds the measurements to the folder's file, in place of older ones of the same; the file.

    It is written whole or not at all, by one process after the other. Raises UsageError when it cannot
    be written, FileFormatError when what is there is no file of measurements.
    """
    path = folder / FILE
    try:
        with locked(beside(path), wait_s=LOCK_WAIT_S):
            kept = {own.key: own for own in _read(path)}
            for own in measurements:
                kept.pop(own.key, None)  # so that the newest is last
                kept[own.key] = own
            document = {"format": FORMAT, "measurements": [own.to_dict() for own in kept.values()]}
            write_whole(path, json_io.sealed(document))
    except Busy:
        raise UsageError(
            f"{path}: another process holds it for {LOCK_WAIT_S:g} s: end that process"
        ) from None
    except FileFormatError:
        raise
    except (OSError, HwnasError) as error:
        raise UsageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return path


def recorded(folder: Path, network: str) -> tuple[Measurement, ...]:
    """The measurements of the architecture with the id `network`; none where there is no file.

    Raises FileFormatError when the file is damaged or foreign.
    """
    return tuple(own for own in _read(folder / FILE) if own.network == network)


def _read(path: Path) -> tuple[Measurement, ...]:
    try:
        if not path.exists():
            return ()
        document = json_io.read(path)
        version, rows = document["format"], list(document["measurements"])
        if type(version) is not int or version < 1:
            raise ValueError(version)
        if version <= FORMAT:
            json_io.require_checksum(document, has_one=version > 1)
    except (OSError, FileFormatError, ValueError, KeyError, TypeError):
        raise FileFormatError(f"{path}: not a file of measurements: move it away and measure again") from None
    if version > FORMAT:
        raise FileFormatError(f"{path}: this hwnas reads formats 1 to {FORMAT}, got {version}: upgrade hwnas")
    return tuple(
        Measurement.from_dict(row, source=f"{path}: {number}") for number, row in enumerate(rows, start=1)
    )
