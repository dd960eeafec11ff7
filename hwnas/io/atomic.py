"""Writing a file whole or not at all: a reader, or a kill, meets the old one or the new one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes beside the target, waits for the disk, then renames.

    Raises OSError when that cannot be done; then nothing is left beside, and what was there stays. A
    kill may leave a `.NAME.*.partial`.
    """
    data = content.encode() if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
