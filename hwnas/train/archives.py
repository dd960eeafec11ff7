"""Images inside tar archives: an index pass lists them, after which any image is read by itself.

.tar                from its place in the file
.tar.gz .bz2 .xz    cannot be read from the middle, so all images are kept in memory, compressed
                    as they are (CIFAR-10 as JPEG: 55 MB); beyond 2 GiB it asks to be unpacked
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hwnas.errors import FileFormatError, UsageError

__all__ = ["COMPRESSED_SUFFIXES", "Member", "members", "members_in_memory"]

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_MEMORY_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a folder of an archive."""

    name: str
    is_folder: bool
    size_bytes: int
    offset: int
    """First byte within the archive, or within what is kept in memory."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The name, cut at its slashes; a leading './' is no part."""
        return PurePosixPath(self.name).parts


def members(path: Path) -> list[Member]:
    """Everything in a tar that is not compressed, in its order.

    Raises FileFormatError when it is not whole.
    """
    found = []
    size_bytes = path.stat().st_size
    with _whole(path), tarfile.open(path, mode="r:") as archive:
        for member in archive:
            if member.isreg() or member.isdir():
                if member.isreg() and member.offset_data + member.size > size_bytes:
                    raise tarfile.ReadError(f"'{member.name}' is cut off")
                found.append(Member(member.name, member.isdir(), member.size, member.offset_data))
        if not _has_end_mark(path):
            raise tarfile.ReadError("its end is missing")
    return found


def members_in_memory(path: Path, wanted: Callable[[str], bool]) -> tuple[list[Member], bytes]:
    """Everything in a compressed tar, and the bytes of the files that `wanted(name)` says yes to.

    Raises FileFormatError when it is not whole, UsageError when it is too large for that.
    """
    found: list[Member] = []
    memory = bytearray()
    with _whole(path), tarfile.open(path, mode="r|*") as archive:
        for member in archive:
            if member.isdir():
                found.append(Member(member.name, True, 0, 0))
            if not member.isreg() or not wanted(member.name):
                continue
            offset = len(memory)
            if offset + member.size > MAX_MEMORY_BYTES:
                raise UsageError(
                    f"{path}: a compressed archive is kept in memory and may hold at most "
                    f"{MAX_MEMORY_BYTES} bytes of images: unpack it (tar xf) and give the folder"
                )
            content = archive.extractfile(member)
            memory += content.read() if content else b""
            if len(memory) != offset + member.size:
                raise tarfile.ReadError(f"'{member.name}' is cut off")
            found.append(Member(member.name, False, member.size, offset))
    return found, bytes(memory)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a whole tar archive: {error}: fetch or pack it again") from None


def _has_end_mark(path: Path) -> bool:
    """Whether a tar ends with a block of zeros; one cut between two files is like a shorter one but
    for this."""
    with path.open("rb") as file:
        file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
        return file.read() == bytes(tarfile.BLOCKSIZE)
