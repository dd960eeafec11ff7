"""For which versions of its runtime a latency table holds, and the file that lists the checked ones.

A table was measured with one version. A newer patch or minor version is accepted with a note; `hwnas table
recheck` measures a few networks with the installed version and writes the outcome to NAME.checks.json, in
the table's folder or, for a table that ships, in ./latency_tables. A version across a known jump, an older
one and another major version are refused unless such a check accepted them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole
from hwnas.io.lock import Busy, beside, locked
from hwnas.predictors.latency.locate import table_folders
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table_file import content_digest

if TYPE_CHECKING:
    from packaging.version import Version

    from hwnas.predictors.latency.table_content import TableContent

__all__ = [
    "JUMPS",
    "Jump",
    "VersionCheck",
    "check_configuration",
    "checked_versions",
    "pin_command",
    "record_check",
    "version_note",
]

FORMAT = "hwnas runtime version checks"
FORMAT_VERSION = 1  # 1: the first one
LOCK_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Jump:
    """A version of a runtime from which on latencies differ from those before it."""

    runtime: str
    first_version: str
    """The first version with the new latencies."""
    change: str
    """What changed, and by how much, as `fp32 convolutions take 0.8 times as long`."""


JUMPS: tuple[Jump, ...] = ()
"""The jumps that were measured. There is none yet: add one only with the figures that prove it."""


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """The outcome of one `hwnas table recheck` that accepted a version."""

    runtime_version: str
    networks: int
    """How many networks were measured."""
    mape_percent: float
    """The table's mean absolute error on them, by the clock."""
    date: str
    """As 2026-11-30."""

    def __str__(self) -> str:
        return (
            f"{self.runtime_version} (checked {self.date}: {self.mape_percent:.1f} % error on "
            f"{self.networks} networks)"
        )


# --- is a version accepted? -------------------------------------------------------------------


def check_configuration(
    table: TableContent,
    profile: DeviceProfile,
    *,
    allow_mismatch: bool = False,
    checks: Sequence[VersionCheck] | None = None,
    jumps: Iterable[Jump] = JUMPS,
) -> tuple[str, ...]:
    """Notes on measuring in `profile` beside predictions of `table`; empty where both are the same.

    `checks` are those on disk when left out. The board is not compared. Raises UsageError with all
    differences, unless `allow_mismatch`: then nothing is compared.
    """
    if allow_mismatch:
        return ()
    wanted = profile.settings()
    differences = table.profile.differences(
        **{name: value for name, value in wanted.items() if name not in ("board", "runtime_version")}
    )
    checks = checked_versions(table) if checks is None else checks
    note, refusal = "", ""
    if profile.runtime == table.profile.runtime:
        try:
            note = version_note(table, profile.runtime_version, checks=checks, jumps=jumps)
        except UsageError as error:
            refusal = str(error)
    if not differences:
        if refusal:
            raise UsageError(f"{refusal}, or give --allow-mismatch")
        return (note,) if note else ()
    told = "; ".join([*differences, *([refusal] if refusal else [])])
    raise UsageError(
        f"the table '{table.name}' is of another configuration: {told}. "
        "Choose another --device, or give --allow-mismatch"
    )


def version_note(
    table: TableContent,
    version: str,
    *,
    checks: Sequence[VersionCheck] = (),
    jumps: Iterable[Jump] = JUMPS,
) -> str:
    """A sentence where the table's version of its runtime is not the installed `version`, else "".

    Raises UsageError for a version that the table does not hold for.
    """
    profile = table.profile
    measured = profile.runtime_version
    accepted = next((check for check in checks if check.runtime_version == version), None)
    if version == measured or measured == "unknown":
        return ""
    if accepted is not None:
        return (
            f"note: the table '{table.name}' was measured with {profile.runtime} {measured} and holds for "
            f"{accepted}"
        )
    old, new = _parsed(measured), _parsed(version)
    differs = f"runtime_version: the table has {measured}, requested {version}"
    way_out = (
        f"Run '{pin_command(profile)}', or check this version in a minute: hwnas table recheck {table.name}"
    )
    jump = _jump_between(profile.runtime, old, new, jumps)
    if jump is not None:
        raise UsageError(
            f"{differs}. From {profile.runtime} {jump.first_version} on, {jump.change}. {way_out}"
        )
    if old is None or new is None or new.release[:1] != old.release[:1] or new < old:
        why = "it is older" if old and new and new < old else "it may have other latencies"
        raise UsageError(f"{differs}; {why}. {way_out}")
    return (
        f"note: the table '{table.name}' was measured with {profile.runtime} {measured}; {version} is "
        f"installed and taken to be as fast. Check it in about a minute: hwnas table recheck {table.name}"
    )


def pin_command(profile: DeviceProfile) -> str:
    """What installs the version of the runtime that the profile names."""
    package = profile.runtime
    if package == "onnxruntime" and profile.provider.startswith(("CUDA", "Tensorrt", "TensorRT")):
        package = "onnxruntime-gpu"
    return f"pip install {package}=={profile.runtime_version.partition('+')[0]}"


def _parsed(version: str) -> Version | None:
    """The version without its local part (`+cu132`); None where it is no version."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(Version(version).public)
    except InvalidVersion:
        return None


def _jump_between(
    runtime: str, old: Version | None, new: Version | None, jumps: Iterable[Jump]
) -> Jump | None:
    if old is None or new is None:
        return None
    for jump in jumps:
        first = _parsed(jump.first_version)
        if jump.runtime == runtime and first is not None and min(old, new) < first <= max(old, new):
            return jump
    return None


# --- the file of checked versions -------------------------------------------------------------


def checked_versions(table: TableContent, folders: Iterable[Path] | None = None) -> tuple[VersionCheck, ...]:
    """The versions that checks have accepted for exactly this table, of all folders with tables.

    Raises FileFormatError for a damaged file.
    """
    digest = ""
    found: dict[str, VersionCheck] = {}
    for folder in table_folders() if folders is None else folders:
        path = _file(folder, table.name)
        if path.is_file():
            digest = digest or content_digest(table)
            for check in _read(path).get(digest, ()):
                found.setdefault(check.runtime_version, check)
    return tuple(found.values())


def record_check(table: TableContent, check: VersionCheck, folder: Path) -> Path:
    """Adds an accepted version to the file in `folder`, in place of an older check of it; the file.

    Raises UsageError when it cannot be written, FileFormatError when what is there is something else.
    """
    path, digest = _file(folder, table.name), content_digest(table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(beside(path), wait_s=LOCK_WAIT_S):
            known = _read(path) if path.exists() else {}
            kept = [one for one in known.get(digest, ()) if one.runtime_version != check.runtime_version]
            known[digest] = (*kept, check)
            checks = {name: [dataclasses.asdict(one) for one in found] for name, found in known.items()}
            document = {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "table": table.name,
                "checks": checks,
            }
            write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    except Busy:
        raise UsageError(
            f"{path}: another process has held it for {LOCK_WAIT_S:g} s: end that process"
        ) from None
    except FileFormatError:
        raise
    except (OSError, HwnasError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be written: {reason}. Name a folder with --out") from None
    return path


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.checks.json"


def _read(path: Path) -> dict[str, tuple[VersionCheck, ...]]:
    """Checks by the digest of the table that they are of."""
    try:
        document = json_io.read(path)
        if document["format"] != FORMAT:
            raise ValueError(document["format"])
        version = document["version"]
        if version == FORMAT_VERSION:
            return {
                str(digest): tuple(_check(data) for data in checks)
                for digest, checks in document["checks"].items()
            }
    except (FileFormatError, ValueError, KeyError, TypeError, AttributeError):
        raise FileFormatError(f"{path}: not a file of checked runtime versions: remove it") from None
    raise FileFormatError(f"{path}: this hwnas reads version {FORMAT_VERSION}, got {version}: upgrade hwnas")


def _check(data: Any) -> VersionCheck:
    check = VersionCheck(**data)
    numbers = (check.networks, check.mape_percent)
    if not all(type(one) in (int, float) and 0 <= one < 1e6 for one in numbers):
        raise ValueError("networks and mape_percent must be numbers of at least 0")
    if not re.fullmatch(r"[\w.+!-]{1,80}", check.runtime_version):
        raise ValueError("runtime_version must be a version")
    return check
