"""Measurements from a file: networks and their milliseconds on a board that is not at hand."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import FileFormatError, HwnasError
from hwnas.io.files import read_bytes
from hwnas.measure.transfer_candidates import Candidates, compare_networks
from hwnas.predictors.latency.features import FEATURE_NAMES
from hwnas.predictors.latency.table import LatencyTable
from hwnas.space.arch import ArchSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MeasuredRow", "Measurements", "read_measurements", "with_measurements"]

REQUIRED = ("network", "ms")
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One network of the file: an architecture, or a graph that is described by its features."""

    label: str
    ms: float
    arch: ArchSpec | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    """Of a graph: a value for each of FEATURE_NAMES."""
    known_ms: Mapping[str, float] = field(default_factory=dict)
    """Of a graph: milliseconds on known devices, by the name of their table."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """All networks of a file."""

    rows: tuple[MeasuredRow, ...]
    known: tuple[str, ...]
    """Tables that the file has a column for."""

    @property
    def ms(self) -> dict[str, float]:
        """Milliseconds by label."""
        return {row.label: row.ms for row in self.rows}

    @property
    def has_graphs(self) -> bool:
        return any(row.arch is None for row in self.rows)


def read_measurements(path: Path, resolve: Callable[[str], tuple[str, ArchSpec]]) -> Measurements:
    """The networks of a CSV file with the columns `network` and `ms`; lines that start with # are comments.

    A row without features names an architecture, which `resolve` finds. A row with a value in each of the
    columns of FEATURE_NAMES is a graph of any kind; it also needs its milliseconds on a known device, in a
    column that is called as that device's table. Raises FileFormatError: the line, the rule, what came.
    """
    try:
        lines = read_bytes(path, max_bytes=MAX_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    columns = list(reader.fieldnames or ())
    absent = [name for name in REQUIRED if name not in columns]
    if absent:
        raise FileFormatError(f"{path}: must have the columns network and ms, got {', '.join(columns)}")
    given = [name for name in FEATURE_NAMES if name in columns]
    if given and len(given) < len(FEATURE_NAMES):
        raise FileFormatError(
            f"{path}: a graph needs all of {', '.join(FEATURE_NAMES)}, got {', '.join(given)}"
        )
    known = tuple(name for name in columns if name not in (*REQUIRED, *FEATURE_NAMES))
    rows: dict[str, MeasuredRow] = {}
    for count, values in enumerate(reader, start=1):
        row = _row(f"{path}, row {count}", values, bool(given), known, resolve)
        if row.label in rows:
            raise FileFormatError(f"{path}, row {count}: '{row.label}' is there twice")
        rows[row.label] = row
    return Measurements(tuple(rows.values()), known)


def _row(
    where: str,
    values: Mapping[str, str | None],
    features: bool,
    known: Sequence[str],
    resolve: Callable[[str], tuple[str, ArchSpec]],
) -> MeasuredRow:
    name = (values.get("network") or "").strip()
    if not name:
        raise FileFormatError(f"{where}: network is empty")
    ms = _number(where, "ms", values)
    if not features or not any((values.get(feature) or "").strip() for feature in FEATURE_NAMES):
        try:
            label, arch = resolve(name)
        except HwnasError as error:
            raise FileFormatError(f"{where}: {error}") from None
        return MeasuredRow(label, ms, arch)
    there = {table: _number(where, table, values) for table in known if (values.get(table) or "").strip()}
    if not there:
        raise FileFormatError(
            f"{where}: the graph '{name}' needs its milliseconds on a known device: add a column with "
            "the name of its table, such as cpu-x86-ncnn"
        )
    counted = {feature: _number(where, feature, values, least=0.0) for feature in FEATURE_NAMES}
    return MeasuredRow(name, ms, features=counted, known_ms=there)


def _number(where: str, column: str, values: Mapping[str, str | None], *, least: float = 1e-9) -> float:
    text = (values.get(column) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise FileFormatError(f"{where}: {column} must be a positive number, got '{text}'")
    return value


def with_measurements(
    drawn: Candidates, measured: Measurements, tables: Sequence[LatencyTable]
) -> tuple[Candidates, pd.DataFrame, pd.DataFrame]:
    """The networks of a transfer: those drawn and the file's architectures; features and known milliseconds.

    The two frames have the file's graphs as well, which no table predicts.
    """
    import pandas as pd

    archs = {row.label: row.arch for row in measured.rows if row.arch is not None}
    candidates = compare_networks({**drawn.archs, **archs}, tables)
    told, known = candidates.features, candidates.known
    graphs = [row for row in measured.rows if row.arch is None]
    if graphs:
        labels = [row.label for row in graphs]
        counted = pd.DataFrame([dict(row.features) for row in graphs], index=labels)
        there = pd.DataFrame([dict(row.known_ms) for row in graphs], index=labels)
        told = pd.concat([told[list(FEATURE_NAMES)], counted[list(FEATURE_NAMES)]])
        known = pd.concat([known, there.reindex(columns=known.columns)])
    return candidates, told, known
