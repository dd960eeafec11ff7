"""The checkpoints in a training's folder: one whole one is there, whenever the process dies.

A file is written beside its place, flushed to the disk and renamed, and `last` becomes `previous` first.

    OUT/last.safetensors       after the last finished epoch, with optimiser and moving average
    OUT/previous.safetensors   after the one before
    OUT/best.safetensors       the best weights so far, nothing else
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hwnas.errors import FileFormatError, HwnasError, UsageError

__all__ = ["BEST", "LAST", "PREVIOUS", "first_whole", "put"]

LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"

Saved = TypeVar("Saved")


def put(content: bytes, path: Path) -> None:
    """Write a checkpoint's bytes to `path`, atomically: it is either there whole or not at all.

    Raises HwnasError when the disk is full or the folder cannot be written; what was there stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LAST and path.exists():
            path.replace(path.with_name(PREVIOUS))
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise HwnasError(
            f"{path}: the checkpoint could not be written: {error.strerror}; "
            "the one before is intact: make room, then resume"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def first_whole(
    path: Path, names: Sequence[str], read: Callable[[Path], Saved]
) -> tuple[Saved, tuple[str, ...]]:
    """What `read` makes of a file, or of the first whole one of `names` in a folder; and why earlier
    ones were passed over, a sentence each.

    Raises UsageError when there is none, and as `read` does when none is whole.
    """
    if path.is_file():
        return read(path), ()
    if not path.is_dir():
        raise UsageError(f"no such checkpoint: {path}: give a .safetensors file or a training's folder")
    skipped: list[str] = []
    for name in names:
        if (path / name).exists():
            try:
                return read(path / name), tuple(skipped)
            except FileFormatError as error:
                skipped.append(str(error))
    if skipped:
        raise FileFormatError("\n".join(skipped))
    raise UsageError(f"{path}: there is no checkpoint in this folder ({', '.join(names)})")


def _flush_folder(folder: Path) -> None:
    """Make the renames themselves durable, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
