"""This machine as the checks of hwnas.doctor.here see it; every part can be replaced in a test."""

from __future__ import annotations

import importlib.metadata
import platform
import signal
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.doctor.runtimes import probe_all
from hwnas.errors import HwnasError

__all__ = ["Imported", "Machine"]


@dataclass(frozen=True, slots=True)
class Imported:
    """How importing a package in a process of its own went."""

    printed: tuple[str, ...] = ()
    """The lines that the process printed."""
    died_of: str | None = None
    """The name of a signal, the last line of an error, or None when all went well."""


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> Sequence[str]:
    """What hwnas asks for, as `name>=1.0; extra == 'torch'`; from its checkout if not installed."""
    try:
        return importlib.metadata.requires("hwnas") or []
    except importlib.metadata.PackageNotFoundError:
        project_file = Path(__file__).parents[2] / "pyproject.toml"
        project = tomllib.loads(project_file.read_text(encoding="utf-8"))["project"]
        extras: Mapping[str, list[str]] = project["optional-dependencies"]
        named = [f"{item}; extra == '{extra}'" for extra, items in extras.items() for item in items]
        return [*project["dependencies"], *named]


def _owners() -> Sequence[str]:
    """The distributions that install something under the import name hwnas."""
    return sorted(set(importlib.metadata.packages_distributions().get("hwnas", [])))


def _import_apart(code: str) -> Imported:
    """Runs a few lines of Python in a fresh interpreter, for at most two minutes."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return Imported(died_of="taking more than two minutes")
    if done.returncode < 0:
        return Imported(died_of=signal.Signals(-done.returncode).name)
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines()
        return Imported(died_of=lines[-1] if lines else f"exit code {done.returncode}")
    return Imported(printed=tuple(done.stdout.splitlines()))


def _table_problems() -> Mapping[str, str | None]:
    """Each device's problem with its table, or None where it is sound."""
    from hwnas.predictors.latency import LatencyTable, device_names

    problems: dict[str, str | None] = {}
    for name in device_names():
        try:
            LatencyTable.load(name)
        except HwnasError as error:
            problems[name] = str(error).splitlines()[0]
        else:
            problems[name] = None
    return problems


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks ask. Every field can be replaced, so that a test needs no such machine."""

    root: Path = Path("/")
    """Where /proc, /sys and /dev are found."""
    folder: Path = field(default_factory=Path.cwd)
    """Where a run would be written."""
    python: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)
    architecture: str = field(default_factory=platform.machine)
    """As `uname -m` says it."""
    managed: bool = field(
        default_factory=lambda: (
            sys.prefix == sys.base_prefix
            and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists()
        )
    )
    """Whether pip refuses to install here, as Debian's does outside a virtual environment."""
    version_of: Callable[[str], str | None] = _version_of
    """Distribution -> installed version, or None."""
    requirements: Callable[[], Sequence[str]] = _requirements
    owners: Callable[[], Sequence[str]] = _owners
    import_apart: Callable[[str], Imported] = _import_apart
    probe_runtimes: Callable[[], Mapping[str, Mapping[str, Any]]] = probe_all
    """Runtime -> what its plug-in's `probe` says here."""
    table_problems: Callable[[], Mapping[str, str | None]] = _table_problems

    @property
    def has_nvidia_gpu(self) -> bool:
        """Whether the kernel shows an NVIDIA GPU, discrete or a Jetson's."""
        shown = ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvhost-ctrl-gpu", "proc/driver/nvidia/version")
        return any((self.root / path).exists() for path in shown)
