"""Writing a file whole or not at all: a reader, or a kill, meets the old one or the new one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

from hwnas.io.files import unwritable

__all__ = ["write_atomically", "write_whole"]

LEFT_AFTER_S = 60.0
"""A partial file whose writer is gone, and that nobody wrote to for this long, is a leftover."""
_PARTIAL = re.compile(r"\..+?\.(?:(?P<pid>\d+)-)?[0-9a-f]{8}\.partial")

_cleaned: set[Path] = set()
"""Folders that this process has cleared of leftovers."""


def write_whole(path: Path, content: str | bytes, *, previous: Path | None = None) -> None:
    """Writes beside the target, waits for the disk, then renames. What was there becomes `previous`.

    Raises OSError when that cannot be done; then nothing is left beside, and what was there stays. What
    a killed writer left beside is removed by the next process that writes into the folder.
    """
    # A name that is not UTF-8 is shown escaped; in JSON that is the very name.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    _remove_leftovers(path.parent)
    stem = os.fsdecode(os.fsencode(path.name)[:150])  # a name may have 255 bytes
    temporary = path.with_name(f".{stem}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """The same; raises HwnasError, or UsageError for a place that cannot be, with the file and the reason."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise unwritable(path, error) from None


def _flush_folder(folder: Path) -> None:
    """Makes the renames themselves durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed writers left, once for each folder: a process leaves nothing to itself."""
    folder = folder.absolute()
    if folder in _cleaned:
        return
    _cleaned.add(folder)
    with contextlib.suppress(OSError):
        for file in folder.glob("*.partial"):
            found = _PARTIAL.fullmatch(file.name)
            if found is None or (found["pid"] and _is_alive(int(found["pid"]))):
                continue
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > LEFT_AFTER_S:
                    file.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
