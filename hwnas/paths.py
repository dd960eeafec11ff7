"""Paths as users write them: `~` wherever a shell would not have expanded it, and files by their content."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

__all__ = ["exists", "expanded", "is_text", "user_path"]

_HOME = re.compile(r"(?:^|(?<=[=:,]))~[A-Za-z0-9_.-]*(?=/|$)")
_TEXTS = (".yaml", ".yml", ".json")
_HEAD_BYTES = 4096


def expanded(value: Any) -> Any:
    """The value with the home folder for each `~` that begins a path in a text: `~/x`, `--out=~/x`,
    `cifar10:~/x`, `~/a:~/b`; lists and mappings alike. A shell expands the first alone."""
    if isinstance(value, str):
        return _HOME.sub(lambda found: os.path.expanduser(found[0]), value) if "~" in value else value  # noqa: PTH111
    if isinstance(value, dict):
        return {key: expanded(one) for key, one in value.items()}
    return [expanded(one) for one in value] if isinstance(value, list) else value


def user_path(path: Path | str) -> Path:
    """The path, with the home folder for a `~` at its beginning."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - which leaves an unknown user as it is


def exists(path: Path) -> bool:
    """Whether something is there; False for a name that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_text(path: Path) -> bool:
    """Whether a file is YAML or JSON rather than tensors: by its ending in any case, else by its content."""
    if not exists(path) or not path.is_file():
        return False
    if path.suffix.lower() in _TEXTS:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return path.suffix.lower() != ".safetensors" and head.strip() != b"" and b"\0" not in head
