"""Commands as the user can type them here: `hwnas` and `pip`, with their folder where the shell lacks it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["install", "program"]

_SOURCES = Path(__file__).resolve().parents[1]


def program(name: str = "hwnas") -> str:
    """`hwnas`, or the path of the program where the shell would not find this one: `.venv/bin/hwnas`."""
    own = Path(sys.executable).parent / name
    found = shutil.which(name)
    if not own.exists() or (found is not None and Path(found).parent == own.parent):
        return name
    with contextlib.suppress(OSError, ValueError):  # elsewhere, or the folder is gone
        own = own.relative_to(Path.cwd())
    return shlex.quote(str(own))


def install(extra: str = "") -> str:
    """The command that installs an extra of this hwnas; nothing is taken from an index by the name hwnas."""
    wanted = f"[{extra}]" if extra else ""
    try:
        importlib.metadata.distribution("hwnas")
    except importlib.metadata.PackageNotFoundError:
        return f"{program('pip')} install -e {shlex.quote(f'{_SOURCES}{wanted}')}"
    return f"{program('pip')} install 'hwnas{wanted}'"
