"""Folders named by number: PARENT/STEM-1, -2, ..., each claimed by one process of those that ask at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["claimed", "next_numbered", "numbered"]

ATTEMPTS = 1000


def numbered(parent: Path, stem: str) -> list[int]:
    """The numbers that are taken, in order."""
    names = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    numbers = [name.removeprefix(f"{stem}-") for name in names if name.startswith(f"{stem}-")]
    return sorted(int(number) for number in numbers if number.isascii() and number.isdecimal())


def next_numbered(parent: Path, stem: str) -> Path:
    """The folder after the last one taken. Nothing is made."""
    return parent / f"{stem}-{max(numbered(parent, stem), default=0) + 1}"


@contextmanager
def claimed(free: Callable[[], Path]) -> Iterator[Path]:
    """The folder that `free` names, made here: of several processes that ask at once, each has its own.

    In the end it is removed where nothing was written into it, and so is its parent. Raises OSError where
    it cannot be made.
    """
    for attempt in range(ATTEMPTS):
        folder = free()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            break
        except (FileExistsError, FileNotFoundError):  # another process made it, or removed its parent
            if attempt + 1 == ATTEMPTS:
                raise
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
