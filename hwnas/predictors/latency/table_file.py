"""The table file: YAML in and out, every rule checked on the way in.

History of the schema
    1  (2026-11) the first: `rows` by op key or `coefficients`, calibration, held-out networks,
       checksum over the content.
    2  (2026-11) calibration.residual: what a calibrated sum is multiplied with. Provenance may be
       `transferred`; then all rows are filled ones.
    3  (2026-11) profile.inferred: fields that no source states, and what their values are inferred
       from. Written only where there are any; other tables stay schema 2, their digests too.
    4  (2026-11) coefficients may have a seventh, unfused_bytes. Written only where there is one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, UsageError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_whole
from hwnas.io.files import read_bytes
from hwnas.io.json import checksum
from hwnas.predictors.latency.calibration import Calibration
from hwnas.predictors.latency.caveats import caveats
from hwnas.predictors.latency.features import COEFFICIENT_NAMES, FEATURE_NAMES
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.residual import FEATURES as RESIDUAL_FEATURES
from hwnas.predictors.latency.residual import Residual
from hwnas.predictors.latency.table_content import PROVENANCES, Coefficients, Row, TableContent

__all__ = [
    "FORMAT",
    "SCHEMA",
    "TableSummary",
    "content_digest",
    "parse_table",
    "read_summary",
    "read_table",
    "table_text",
    "write_table",
]

FORMAT = "hwnas latency table"
SCHEMA = 4
ROW_COLUMNS = ("ms", "low_ms", "high_ms", "p95_ms")
FILLED_COLUMNS = ("ms", "low_ms", "high_ms")
HELDOUT_COLUMNS = ("label", "measured_ms", "predicted_ms")


def _with_residual(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had no residual; its checksum is over what it had."""
    if isinstance(document.get("calibration"), dict):
        document = {**document, "calibration": {**document["calibration"], "residual": None}}
    return document


def _with_inferred(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 had no inferred fields."""
    if isinstance(document.get("profile"), dict):
        document = {**document, "profile": {**document["profile"], "inferred": {}}}
    return document


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _with_residual,
    2: _with_inferred,
    3: lambda document: document,
}
"""Schema n -> the document as schema n + 1 has it."""

_KEYS = (
    "format", "schema", "name", "unit", "provenance", "created", "checksum", "profile", "heldout",
    "calibration", "coefficients", "measurement", "environment", "notes", "row_counts", "disturbed",
    "row_columns", "filled_columns", "rows", "filled",
)  # fmt: skip
_SEAL = "# sha256 of what follows: "
"""A comment to YAML: with it, a list of devices need not read all rows of all tables to see that they are
whole. The field `checksum` is over the content, whatever the text looks like."""
_ROWS_START = re.compile(r"^rows:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A table's head, read without its rows: what a list of devices shows."""

    name: str
    path: Path
    profile: DeviceProfile
    provenance: str
    heldout: HeldOut
    created: str
    measured_rows: int
    filled_rows: int
    """0 measured and 0 filled rows: the table is coefficients."""
    caveats: tuple[str, ...] = ()
    """As of the table itself."""


def read_table(path: Path) -> TableContent:
    """The table in the file. Raises FileFormatError: the file, the key, the rule, what came."""
    return parse_table(_document_text(path), source=str(path))


def read_summary(path: Path) -> TableSummary:
    """The head of the table in the file. The text is checked as a whole, the rules of its rows are not.

    Raises FileFormatError as `read_table` does.
    """
    text = _document_text(path)
    if not _is_as_written(text):
        parse_table(text, source=str(path))
    rows = _ROWS_START.search(text)
    reader = _Reader(str(path))
    document = reader.document(yaml_io.parse(text[: rows.start()] if rows else text, source=str(path)))
    counts = reader.mapping(document, "row_counts")
    provenance = reader.provenance(document)
    return TableSummary(
        name=reader.text(document, "name"),
        path=path,
        profile=reader.profile(document),
        provenance=provenance,
        heldout=reader.heldout(document),
        created=reader.text(document, "created"),
        caveats=caveats(provenance, reader.mapping(document, "measurement")),
        measured_rows=reader.count(counts, "measured", at="row_counts."),
        filled_rows=reader.count(counts, "filled", at="row_counts."),
    )


def parse_table(text: str, *, source: str) -> TableContent:
    """The table that `text` holds; `source` names it in errors. Raises as `read_table` does."""
    reader = _Reader(source)
    if not text.strip():
        raise FileFormatError(f"{source}: the file is empty; a table starts with 'format: {FORMAT}'")
    stored = yaml_io.parse(text, source=source)
    table = reader.table(reader.document(stored))
    reader.checksum(stored)
    return table


def table_text(table: TableContent) -> str:
    """The table as a file holds it, checksum included."""
    document = _to_document(table)
    head = {key: value for key, value in document.items() if key not in ("rows", "filled")}
    tail = {key: document[key] for key in ("rows", "filled") if key in document}
    text = yaml_io.dump(head) + (yaml_io.dump(tail) if tail else "")
    return f"{_SEAL}{_sha256(text)}\n{text}"


def write_table(table: TableContent, path: Path) -> None:
    """Writes the table, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, table_text(table))


def content_digest(table: TableContent) -> str:
    """SHA-256, in hex, of the table's content."""
    return str(_to_document(table)["checksum"]).partition(":")[2]


def _is_as_written(text: str) -> bool:
    """Whether the text has its own checksum in the first line; tables of before have none, and other line
    ends change it."""
    first, _, rest = text.partition("\n")
    return first == f"{_SEAL}{_sha256(rest)}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _document_text(path: Path) -> str:
    try:
        return read_bytes(path, max_bytes=yaml_io.MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"{path}: must be UTF-8 text") from None


def _oldest_schema(table: TableContent) -> int:
    """The first schema that has all that is in the table: the content of older tables keeps its digest."""
    if table.coefficients is not None and table.coefficients.names == COEFFICIENT_NAMES:
        return 4
    return 3 if table.profile.inferred else 2


def _to_document(table: TableContent) -> dict[str, Any]:
    """The table as plain data, in the order of the file; numbers rounded to what they are worth."""
    measured = {key: row for key, row in table.rows.items() if not row.filled}
    filled = {key: row for key, row in table.rows.items() if row.filled}
    document: dict[str, Any] = {
        "format": FORMAT,
        "schema": _oldest_schema(table),
        "name": table.name,
        "unit": "ms",
        "provenance": table.provenance,
        "created": table.created,
        "checksum": "",
        "profile": table.profile.settings()
        | ({"inferred": dict(table.profile.inferred)} if _oldest_schema(table) >= 3 else {}),
        "heldout": {
            "method": table.heldout.method,
            "columns": list(HELDOUT_COLUMNS),
            "networks": [
                [item.label, _rounded(item.measured_ms), _rounded(item.predicted_ms)]
                for item in table.heldout.networks
            ],
        },
    }
    if table.heldout.fresh_std:  # tables from before have none, and their digest stays
        document["heldout"]["fresh_std"] = _rounded(table.heldout.fresh_std)
    if table.coefficients is None:
        calibration = table.calibration
        document["calibration"] = {
            "networks": calibration.networks,
            "common_scale": _rounded(calibration.common_scale),
            "offset_ms": _rounded(calibration.offset_ms),
            "per_op_ms": _rounded(calibration.per_op_ms),
            "cold_ms_per_mib": _rounded(calibration.cold_ms_per_mib),
            "cache_mib": _rounded(calibration.cache_mib),
            "scales": {kind: _rounded(scale) for kind, scale in sorted(calibration.scales.items())},
            "residual": _residual_document(calibration.residual),
        }
    else:
        document["coefficients"] = {
            "offset_ms": _rounded(table.coefficients.offset_ms),
            "ms_per_unit": {
                name: _rounded(value)
                for name, value in zip(table.coefficients.names, table.coefficients.values, strict=True)
            },
        }
    document |= {
        "measurement": _plain(table.measurement),
        "environment": _plain(table.environment),
        "notes": list(table.notes),
        "row_counts": {"measured": len(measured), "filled": len(filled)},
    }
    if table.rows:
        document["disturbed"] = list(table.disturbed)
        document["row_columns"] = list(ROW_COLUMNS)
        document["filled_columns"] = list(FILLED_COLUMNS)
        document["rows"] = {
            key: [_rounded(value) for value in (row.ms, row.low_ms, row.high_ms, row.p95_ms or row.high_ms)]
            for key, row in measured.items()
        }
        document["filled"] = {
            key: [_rounded(value) for value in (row.ms, row.low_ms, row.high_ms)]
            for key, row in filled.items()
        }
    document["checksum"] = checksum(document)
    return document


def _residual_document(residual: Residual) -> dict[str, Any] | None:
    if not residual.points:
        return None
    return {
        "features": list(RESIDUAL_FEATURES),
        "centre": [_rounded(value) for value in residual.centre],
        "scale": [_rounded(value) for value in residual.scale],
        "reach": _rounded(residual.reach),
        "points": [[_rounded(value) for value in point] for point in residual.points],
        "weights": [_rounded(value) for value in residual.weights],
    }


def _rounded(value: float) -> float:
    """Six significant digits: a clock has no more, and files stay small."""
    return float(f"{value:.6g}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _rounded(value) if isinstance(value, float) else value
    return [_plain(item) for item in value]


class _Reader:
    """Checks plain data field by field; `source` starts every message."""

    def __init__(self, source: str) -> None:
        self.source = source

    def fail(self, message: str) -> FileFormatError:
        return FileFormatError(f"{self.source}: {message}")

    def document(self, data: Any) -> dict[str, Any]:
        """The document, of this schema, with no key that is not known."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise self.fail(f"not a latency table: it must start with 'format: {FORMAT}'")
        schema = data.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise self.fail(f"schema: must be a whole number of at least 1, got {schema!r}")
        if schema > SCHEMA:
            raise self.fail(
                f"schema: this hwnas reads up to {SCHEMA}, got {schema}, of a newer one: upgrade hwnas"
            )
        while schema < SCHEMA:
            data = _MIGRATIONS[schema](data)
            schema += 1
        for key in data:
            if key not in _KEYS:
                raise self.fail(f"{key}: no such field.{did_you_mean(str(key), _KEYS)}")
        unit = data.get("unit")
        if unit != "ms":
            raise self.fail(f"unit: must be 'ms', got {'nothing' if unit is None else repr(unit)}")
        document: dict[str, Any] = data
        return document

    def table(self, document: dict[str, Any]) -> TableContent:
        rows = self.rows(document)
        coefficients = self.coefficients(document)
        if bool(rows) == (coefficients is not None):
            raise self.fail("rows: a table has rows or coefficients, and one of the two")
        return TableContent(
            name=self.text(document, "name"),
            profile=self.profile(document),
            provenance=self.provenance(document),
            rows=rows,
            coefficients=coefficients,
            calibration=self.calibration(document) if rows else Calibration(),
            heldout=self.heldout(document),
            environment=self.mapping(document, "environment"),
            measurement=self.mapping(document, "measurement"),
            notes=tuple(str(note) for note in self.items(document, "notes")),
            created=self.text(document, "created"),
        )

    def checksum(self, document: dict[str, Any]) -> None:
        given, computed = document.get("checksum"), checksum(document)
        if given != computed:
            raise self.fail(
                f"checksum: the content does not match it (file {str(given)[:19]}..., content "
                f"{computed[:19]}...); the file is damaged or was edited by hand. Fetch or build it again"
            )

    def rows(self, document: dict[str, Any]) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        if "rows" not in document:
            return rows
        disturbed = {str(key) for key in self.items(document, "disturbed")}
        for section, columns in (("rows", ROW_COLUMNS), ("filled", FILLED_COLUMNS)):
            title = "row_columns" if section == "rows" else "filled_columns"
            if document.get(title) != list(columns):
                raise self.fail(f"{title}: must be {list(columns)}, got {document.get(title)!r}")
            for key, values in self.mapping(document, section).items():
                if not isinstance(values, list) or len(values) != len(columns):
                    raise self.fail(f"{section}.{key}: must be {len(columns)} numbers, got {values!r}")
                if key in rows:
                    raise self.fail(f"filled.{key}: is measured in rows, and may not be filled as well")
                numbers = [
                    self.positive(value, f"{section}.{key} ({column})")
                    for value, column in zip(values, columns, strict=True)
                ]
                if not numbers[1] <= numbers[0] <= numbers[2]:
                    raise self.fail(f"{section}.{key}: low_ms <= ms <= high_ms must hold, got {values}")
                rows[str(key)] = Row(
                    ms=numbers[0],
                    low_ms=numbers[1],
                    high_ms=numbers[2],
                    p95_ms=numbers[3] if section == "rows" else None,
                    filled=section == "filled",
                    disturbed=str(key) in disturbed,
                )
        counts = self.mapping(document, "row_counts")
        filled = sum(row.filled for row in rows.values())
        if counts != {"measured": len(rows) - filled, "filled": filled}:
            raise self.fail(
                f"row_counts: the file has {len(rows) - filled} measured and {filled} filled rows, "
                f"but says {counts}; it is truncated or was edited"
            )
        return rows

    def coefficients(self, document: dict[str, Any]) -> Coefficients | None:
        if "coefficients" not in document:
            return None
        data = self.mapping(document, "coefficients")
        values = self.mapping(data, "ms_per_unit", at="coefficients.")
        if tuple(values) not in (FEATURE_NAMES, COEFFICIENT_NAMES):
            raise self.fail(
                f"coefficients.ms_per_unit: must name {', '.join(FEATURE_NAMES)} in this order, "
                f"got {', '.join(map(str, values))}"
            )
        return Coefficients(
            values=tuple(
                self.at_least_0(value, f"coefficients.ms_per_unit.{name}") for name, value in values.items()
            ),
            offset_ms=self.at_least_0(data.get("offset_ms"), "coefficients.offset_ms"),
        )

    def calibration(self, document: dict[str, Any]) -> Calibration:
        data = self.mapping(document, "calibration")
        return Calibration(
            scales={
                str(kind): self.at_least_0(scale, f"calibration.scales.{kind}")
                for kind, scale in self.mapping(data, "scales", at="calibration.").items()
            },
            common_scale=self.positive(data.get("common_scale"), "calibration.common_scale"),
            offset_ms=self.at_least_0(data.get("offset_ms"), "calibration.offset_ms"),
            per_op_ms=self.number(data.get("per_op_ms"), "calibration.per_op_ms"),
            cold_ms_per_mib=self.at_least_0(data.get("cold_ms_per_mib"), "calibration.cold_ms_per_mib"),
            cache_mib=self.at_least_0(data.get("cache_mib"), "calibration.cache_mib"),
            networks=self.count(data, "networks", at="calibration."),
            residual=self.residual(data.get("residual")),
        )

    def residual(self, data: Any) -> Residual:
        """What `calibration.residual` holds; nothing where it is null."""
        at = "calibration.residual."
        if data is None:
            return Residual()
        if not isinstance(data, dict) or data.get("features") != list(RESIDUAL_FEATURES):
            raise self.fail(f"{at}features: must be {list(RESIDUAL_FEATURES)}, got {_shown(data)}")
        centre = self.numbers(data.get("centre"), f"{at}centre", len(RESIDUAL_FEATURES))
        scale = self.numbers(data.get("scale"), f"{at}scale", len(RESIDUAL_FEATURES))
        points = [
            self.numbers(point, f"{at}points", len(RESIDUAL_FEATURES))
            for point in self.items(data, "points", at=at)
        ]
        return Residual(
            centre=centre,
            scale=tuple(self.positive(value, f"{at}scale") for value in scale),
            reach=self.positive(data.get("reach"), f"{at}reach"),
            points=tuple(points),
            weights=self.numbers(data.get("weights"), f"{at}weights", len(points)),
        )

    def heldout(self, document: dict[str, Any]) -> HeldOut:
        data = self.mapping(document, "heldout")
        if data.get("columns") != list(HELDOUT_COLUMNS):
            raise self.fail(f"heldout.columns: must be {list(HELDOUT_COLUMNS)}, got {data.get('columns')!r}")
        networks = []
        for values in self.items(data, "networks", at="heldout."):
            if not isinstance(values, list) or len(values) != len(HELDOUT_COLUMNS):
                raise self.fail(f"heldout.networks: must be label and two numbers, got {values!r}")
            label = str(values[0])
            networks.append(
                HeldOutNetwork(
                    label,
                    measured_ms=self.positive(values[1], f"heldout.networks.{label} (measured_ms)"),
                    predicted_ms=self.positive(values[2], f"heldout.networks.{label} (predicted_ms)"),
                )
            )
        return HeldOut(
            tuple(networks),
            self.text(data, "method", at="heldout."),
            self.at_least_0(data.get("fresh_std", 0.0), "heldout.fresh_std"),
        )

    def profile(self, document: dict[str, Any]) -> DeviceProfile:
        data = self.mapping(document, "profile")
        names = [field.name for field in dataclasses.fields(DeviceProfile)]
        if sorted(map(str, data)) != sorted(names):
            raise self.fail(f"profile: must have {', '.join(names)}, got {', '.join(map(str, data))}")
        for name in names:
            if name not in ("threads", "batch", "inferred"):
                self.text(data, name, at="profile.")
        for name in self.mapping(data, "inferred", at="profile."):
            self.text(data["inferred"], name, at="profile.inferred.")
        try:
            return DeviceProfile(**data)
        except UsageError as error:
            raise self.fail(f"profile.{error}") from None

    def provenance(self, document: dict[str, Any]) -> str:
        value = document.get("provenance")
        if value not in PROVENANCES:
            raise self.fail(f"provenance: must be one of {', '.join(PROVENANCES)}, got {_shown(value)}")
        return str(value)

    def mapping(self, data: Mapping[str, Any], key: str, *, at: str = "") -> dict[str, Any]:
        value = data.get(key)
        if not isinstance(value, dict):
            raise self.fail(f"{at}{key}: must be a mapping, got {_shown(value)}")
        return value

    def items(self, data: Mapping[str, Any], key: str, *, at: str = "") -> list[Any]:
        value = data.get(key)
        if not isinstance(value, list):
            raise self.fail(f"{at}{key}: must be a list, got {_shown(value)}")
        return value

    def text(self, data: Mapping[str, Any], key: str, *, at: str = "") -> str:
        value = data.get(key)
        if not isinstance(value, str):
            raise self.fail(f"{at}{key}: must be text, got {_shown(value)}")
        return value

    def count(self, data: Mapping[str, Any], key: str, *, at: str = "") -> int:
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.fail(f"{at}{key}: must be a whole number of at least 0, got {_shown(value)}")
        return value

    def numbers(self, values: Any, where: str, count: int) -> tuple[float, ...]:
        if not isinstance(values, list) or len(values) != count:
            raise self.fail(f"{where}: must be {count} numbers, got {_shown(values)}")
        return tuple(self.number(value, where) for value in values)

    def number(self, value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise self.fail(f"{where}: must be a finite number, got {_shown(value)}")
        return float(value)

    def at_least_0(self, value: Any, where: str) -> float:
        number = self.number(value, where)
        if number < 0:
            raise self.fail(f"{where}: must be at least 0, got {number:g}")
        return number

    def positive(self, value: Any, where: str) -> float:
        number = self.number(value, where)
        if number <= 0:
            raise self.fail(f"{where}: must be above 0, got {number:g}")
        return number


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
