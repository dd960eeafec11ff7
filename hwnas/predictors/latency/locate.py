"""Where tables are: the user's folders before those that ship."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hwnas.errors import UsageError, did_you_mean
from hwnas.paths import user_path
from hwnas.plugins import PACKAGE

__all__ = ["check_name", "device_names", "find_table", "shipped_table", "stray_files", "table_folders"]

VARIABLE = "HWNAS_TABLES"


def table_folders(environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Folders that hold tables, the first to be asked first; only those that exist.

    $HWNAS_TABLES (several are separated as in PATH), `latency_tables` in the current folder, then
    the tables that ship: inside the installed package, or beside it in a source checkout.
    """
    environment = os.environ if environment is None else environment
    named = [user_path(text) for text in environment.get(VARIABLE, "").split(os.pathsep) if text]
    folders = [*named, Path("latency_tables"), *_shipped_folders()]
    resolved = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    return tuple(resolved)


def _shipped_folders() -> list[Path]:
    """Inside the installed package, and beside it in a source checkout."""
    shipped = [PACKAGE / "latency_tables"]
    if (PACKAGE.parent / "pyproject.toml").is_file():
        shipped.append(PACKAGE.parent / "latency_tables")
    return shipped


def shipped_table(name: str) -> Path | None:
    """The table of that name that ships; None where none does."""
    files = [folder.resolve() / f"{name}.yaml" for folder in _shipped_folders()]
    return next((file for file in files if file.is_file()), None)


def device_names(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The devices there is a table for, sorted."""
    return tuple(
        sorted(
            {
                file.stem
                for folder in table_folders(environment)
                for file in folder.glob("*.yaml")
                if file.is_file() and not file.name.startswith(".")
            }
        )
    )


def stray_files(environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """What lies among the tables as if it were one, and is none: folders, links to nowhere, hidden files."""
    return tuple(
        file
        for folder in table_folders(environment)
        for file in sorted(folder.glob("*.yaml"))
        if not file.is_file() or file.name.startswith(".")
    )


def check_name(name: str) -> None:
    """Raises UsageError for what cannot name a device."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith((".", "-")):
        raise UsageError(f"--name is letters, digits, dots, - and _, got '{name}'")


def find_table(name: str, environment: Mapping[str, str] | None = None) -> Path:
    """The table file of a device, or the file that `name` itself is a path to.

    Raises UsageError when there is none: with the known devices and the nearest one, or with those whose
    names begin with it (`a100`: `a100-batch2048`, `a100-batch256`).
    """
    if name.lower().endswith((".yaml", ".yml", ".json")) or os.sep in name:
        path = user_path(name)
        if path.is_file():
            return path
        raise UsageError(f"no table file '{name}'")
    for folder in table_folders(environment):
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path
    known = device_names(environment)
    kinds = [one for one in known if name and one.startswith(f"{name}-")]
    if kinds:
        raise UsageError(
            f"no device '{name}' alone: there are {len(kinds)} of it, which differ in runtime, threads, "
            f"batch or source, and so in every millisecond. Choose one: {', '.join(kinds)}"
        )
    listed = ", ".join(known) or "none"
    raise UsageError(
        f"no device '{name}'.{did_you_mean(name, known)} Known: {listed}. "
        f"To measure this machine: hwnas table build --name {name or 'NAME'}"
    )
