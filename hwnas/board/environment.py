"""What a measurement ran on: board, CPU, kernel, memory, governor, Python."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from hwnas.board import guards

__all__ = ["describe"]


def describe(root: Path = Path("/")) -> dict[str, str | int | float | None]:
    """The machine in plain words and numbers; None for what it does not tell.

    Nothing in it names the machine's owner: no host name, user or path.
    """
    cpuinfo = _text(root / "proc/cpuinfo")
    return {
        "board": _board(root),
        "cpu": _cpu(cpuinfo),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "memory_mib": _memory_mib(root),
        "governor": guards.governor(root),
        "virtual": "hypervisor" in cpuinfo,
        **guards.state(root),
    }


def _board(root: Path) -> str | None:
    model = _text(root / "proc/device-tree/model").rstrip("\x00\n")
    if model:
        return model
    names = [_text(root / "sys/class/dmi/id" / name).strip() for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name) or None


def _cpu(cpuinfo: str) -> str | None:
    for field in ("model name", "Model", "Hardware", "CPU part"):
        found = re.search(rf"^{field}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or None


def _memory_mib(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found.group(1)) // 1024 if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
