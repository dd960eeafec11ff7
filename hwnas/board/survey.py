"""What a board has and lacks for measuring, for `hwnas doctor --host`; nothing is changed."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hwnas.board import environment, install, lease

__all__ = ["survey"]

_GPU = ("nvidia0", "nvhost-gpu", "nvhost-ctrl-gpu")


def survey(runtime: str, plugin: str, cache: Path) -> dict[str, Any]:
    """The environment, and beside it: disk, memory, Python's parts, the runtime where it is looked for."""
    own = install.environment_folder(runtime, cache) / "bin/python"
    chosen = os.environ.get("HWNAS_PYTHON")
    places = [chosen] if chosen else [*([str(own)] if own.exists() else []), sys.executable]
    return {
        "environment": environment.describe(),
        "system": _system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "managed": (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists(),
        "venv": bool(importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")),
        "cache": str(cache),
        "writable": _writable(cache),
        "free_mib": shutil.disk_usage(_existing(cache)).free // 2**20,
        "available_mib": _available_mib(),
        "held": lease.holder(),
        "gpu": any(Path("/dev", name).exists() for name in _GPU),
        "chosen": chosen,
        "packages": _packages(runtime, plugin),
        "runtimes": [dict(install.probe(python, plugin), python=python) for python in places],
    }


def _packages(runtime: str, plugin: str) -> list[str]:
    try:
        return list(install.packages(runtime, plugin))
    except install.InstallError:  # nothing can be installed, and what is there may do
        return []


def _system() -> str:
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.system()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    return facts.get("PRETTY_NAME", platform.system()).strip('"')


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _writable(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK)


def _available_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None
