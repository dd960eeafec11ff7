"""Images inside tar archives: an index pass lists them, after which any image is read by itself.

.tar                from its place in the file
.tar.gz .bz2 .xz    cannot be read from the middle, so all images are kept in memory, compressed
                    as they are (CIFAR-10 as JPEG: 55 MB); beyond 2 GiB it asks to be unpacked
"""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hwnas.data.images import Image, is_hidden, is_image, printable
from hwnas.errors import FileFormatError, HwnasError, UsageError

__all__ = [
    "COMPRESSED_SUFFIXES",
    "Member",
    "find_shards",
    "list_shards",
    "members",
    "members_in_memory",
]

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
    links: dict[str, str] = {}
    with _whole(path), tarfile.open(path, mode="r:") as archive:
        size_bytes = path.stat().st_size
        for member in archive:
            if member.isreg() or member.isdir():
                if member.isreg() and member.offset_data + member.size > size_bytes:
                    raise tarfile.ReadError(f"'{member.name}' is cut off")
                found.append(Member(_slashed(member.name), member.isdir(), member.size, member.offset_data))
            elif member.islnk() or member.issym():
                links[_slashed(member.name)] = _target(member)
        if not _has_end_mark(path):
            raise tarfile.ReadError("its end is missing")
    return [*found, *_linked(found, links)]


def members_in_memory(path: Path, wanted: Callable[[str], bool]) -> tuple[list[Member], bytes]:
    """Everything in a compressed tar, and the bytes of the files that `wanted(name)` says yes to.

    Raises FileFormatError when it is not whole, UsageError when it is too large for that.
    """
    found: list[Member] = []
    links: dict[str, str] = {}
    memory = bytearray()
    with _whole(path), tarfile.open(path, mode="r|*") as archive:
        for member in archive:
            name = _slashed(member.name)
            if member.isdir():
                found.append(Member(name, True, 0, 0))
            elif member.islnk() or member.issym():
                links[name] = _target(member)
            if not member.isreg() or not wanted(name):
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
            found.append(Member(name, False, member.size, offset))
    return [*found, *_linked(found, links)], bytes(memory)


def _slashed(name: str) -> str:
    """A member's name with slashes, where a packer on Windows wrote backslashes alone."""
    return name.replace("\\", "/") if "/" not in name else name


def _target(member: tarfile.TarInfo) -> str:
    """What a link leads to, from the archive's top on."""
    if member.islnk():
        return posixpath.normpath(member.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))


def _linked(found: list[Member], links: dict[str, str]) -> Iterator[Member]:
    """The files that links lead to, under the links' names; links to links are not followed."""
    files = {posixpath.normpath(member.name): member for member in found}
    inside: dict[str, list[tuple[str, Member]]] = {target: [] for target in links.values()}
    for name, member in files.items():
        for folder in PurePosixPath(name).parents:
            if str(folder) in inside:
                inside[str(folder)].append((name.removeprefix(f"{folder}/"), member))
    for link, target in links.items():
        if target in files and not files[target].is_folder:
            yield replace(files[target], name=link)
        for rest, member in inside[target]:
            yield replace(member, name=f"{link}/{rest}")


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except HwnasError:
        raise
    except Exception as error:  # tarfile and the decompressors raise whatever they come upon
        raise FileFormatError(
            f"{path}: not a whole tar archive: {printable(str(error))}: fetch or pack it again"
        ) from None


def _has_end_mark(path: Path) -> bool:
    """Whether a tar ends with a block of zeros; one cut between two files is like a shorter one but
    for this."""
    with path.open("rb") as file:
        file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
        return file.read() == bytes(tarfile.BLOCKSIZE)


# --- shards: a folder of tars, as web datasets have -------------------------------------------
#     DATA/train-0000.tar, DATA/train-0001.tar, DATA/val-0000.tar    the split by the file's name, or
#     DATA/train/0000.tar, DATA/val/0000.tar                         by its folder's
#
# What a shard holds is either `KEY.jpg` beside `KEY.cls`, the class as a number or a name (a web dataset),
# or `CLASS/NAME.jpg`. Where classes are numbers, DATA/classnames.txt may name them, a line each.

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "validation": "val", "valid": "val"}
SPLIT_WORDS |= {"test": "test", "testing": "test"}
NAMES_FILE = "classnames.txt"
MAX_LABEL_BYTES = 4096


def find_shards(root: Path) -> dict[Path, str]:
    """The tars of a folder and of its split folders, with the split of each, by name."""
    found: dict[Path, str] = {}
    for file in _tars(root):
        words = re.findall(r"[a-z]+", file.stem.lower())
        splits = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
        if splits:
            found[file] = splits[0]
    for word, split in SPLIT_WORDS.items():
        found |= dict.fromkeys(_tars(root / word), split)
    return found


def _tars(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.tar") if not is_hidden(file.name))


def list_shards(root: Path, shards: dict[Path, str]) -> list[Image]:
    """The images in these shards of the folder `root`.

    Raises FileFormatError when a shard is not whole, or an image in it has no class.
    """
    found: list[Image] = []
    for shard, split in shards.items():
        found += _images_of(shard, shard.relative_to(root).as_posix(), split)
    return _named(found, root)


def _images_of(shard: Path, file: str, split: str) -> Iterator[Image]:
    listed = [member for member in members(shard) if not member.is_folder and not is_hidden(member.name)]
    labels = _by_key(shard, [member for member in listed if member.name.endswith(".cls")])
    images = [member for member in listed if is_image(member.name)]
    if labels:
        _by_key(shard, images)
    with shard.open("rb") as opened:
        for member in images:
            label = labels.get(_key(member.name))
            if label is not None:
                opened.seek(label.offset)
                class_name = _label(opened.read(min(label.size_bytes, MAX_LABEL_BYTES)), shard, label)
            elif not labels and len(member.parts) >= 2:
                class_name = member.parts[-2]
            else:
                raise FileFormatError(
                    f"{shard}: every image must have its class, as KEY.cls beside KEY.jpg or as its folder, "
                    f"got '{printable(member.name)}' without"
                )
            class_name = printable(class_name)
            name = "/".join((split, class_name, printable(shard.stem), *map(printable, member.parts)))
            yield Image(name, split, class_name, member.size_bytes, member.offset, file)


def _by_key(shard: Path, entries: list[Member]) -> dict[str, Member]:
    """The entries of a shard by their samples' keys; raises FileFormatError where two have one key."""
    found: dict[str, Member] = {}
    for member in entries:
        key = _key(member.name)
        if key in found:
            one, other, shared = map(printable, (found[key].name, member.name, key))
            raise FileFormatError(
                f"{shard}: '{one}' and '{other}' have one key, '{shared}': a key "
                "ends at the first dot of a file's name. Give each sample, an image and its .cls, a key of "
                "its own without a dot"
            )
        found[key] = member
    return found


def _key(name: str) -> str:
    """What a web dataset's files of one sample have in common: the path up to the file's first dot."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(content: bytes, shard: Path, member: Member) -> str:
    try:
        text = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    if not text or "/" in text or "\n" in text or not text.isprintable():
        raise FileFormatError(
            f"{shard}: a class must be a number or a name, got {content[:40]!r} in {printable(member.name)}"
        )
    return text


def _named(images: list[Image], root: Path) -> list[Image]:
    """The images with numbers for classes made names that sort like the numbers."""
    numbers = {image.class_name for image in images}
    if not all(re.fullmatch(r"[0-9]{1,9}", number) for number in numbers):
        return images
    names = {number: number.zfill(max(map(len, numbers))) for number in numbers}
    file = root / NAMES_FILE
    if file.is_file():
        lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = max(map(int, numbers))
        if len(lines) <= last or len(set(lines)) != len(lines) or not all(lines):
            raise UsageError(
                f"{file}: must have a name of its own in a line for each class from 0 to {last}, "
                f"got {len(lines)} lines"
            )
        names = {number: lines[int(number)].replace("/", "-") for number in numbers}
    return [
        replace(
            image,
            class_name=names[image.class_name],
            name="/".join((image.split, names[image.class_name], *image.name.split("/")[2:])),
        )
        for image in images
    ]
