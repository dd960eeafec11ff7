"""Which images a folder or an archive holds, and their bytes. Nothing is decoded here.

Expected: DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test), as a folder or inside a tar. An
index pass lists everything; after it, any image is read by itself:

    folder              one file each
    .tar                from its place in the file
    .tar.gz .bz2 .xz    cannot be read from the middle, so all images are kept in memory, compressed
                        as they are (CIFAR-10 as JPEG: 55 MB); beyond 2 GiB it asks to be unpacked
"""

from __future__ import annotations

import lzma
import os
import random
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hwnas.errors import FileFormatError, HwnasError, UsageError

__all__ = ["Image", "Images", "open_images", "subset"]

SPLITS = ("train", "val", "test")
EVALUATION_SPLITS = ("val", "test")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_MEMORY_BYTES = 2 * 1024**3

LAYOUT = (
    "expected are DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test), as a folder or inside a "
    ".tar, .tar.gz, .tar.bz2 or .tar.xz"
)


@dataclass(frozen=True, slots=True)
class Image:
    """Where one image is."""

    name: str
    """Path from the split on, such as train/cat/0001.jpg."""
    split: str
    """train, val or test."""
    class_name: str
    """The folder it lies in."""
    size_bytes: int
    offset: int
    """First byte within the archive, or within what is kept in memory; 0 for a file of its own."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a data set, by split."""

    path: Path
    images: tuple[Image, ...]
    """All of them that are not empty files, sorted by name."""
    empty: tuple[str, ...]
    """Names of files without a byte, which are left out."""
    in_archive: bool
    memory: bytes | None
    """All images of a compressed archive, one after the other."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold images, in the order train, val, test."""
        found = {image.split for image in self.images}
        return tuple(split for split in SPLITS if split in found)

    def split(self, name: str) -> tuple[Image, ...]:
        """The images of a split; raises UsageError when it has none."""
        found = tuple(image for image in self.images if image.split == name)
        if not found:
            raise UsageError(f"{self.path}: there are no images in '{name}'; {LAYOUT}")
        return found

    def evaluation_split(self) -> str:
        """The split that accuracy is measured on: val where there is one, else test."""
        for name in EVALUATION_SPLITS:
            if name in self.splits:
                return name
        raise UsageError(
            f"{self.path}: there are no images to evaluate on, neither in val nor in test; {LAYOUT}"
        )

    def classes(self) -> tuple[str, ...]:
        """The classes of the training images, sorted by name: label 0 is the first.

        Raises UsageError when there are fewer than two, or when a class is in val or test alone.
        """
        names = tuple(sorted({image.class_name for image in self.split("train")}))
        if len(names) < 2:
            raise UsageError(
                f"{self.path}: a classifier needs at least 2 classes (folders in train), "
                f"got 1: '{names[0]}' with {len(self.split('train'))} images"
            )
        for split in EVALUATION_SPLITS:
            labels_of([image for image in self.images if image.split == split], names, self.path)
        return names

    def read(self, image: Image) -> bytes:
        """The bytes of an image's file; raises OSError when it is gone."""
        if self.memory is not None:
            return self.memory[image.offset : image.offset + image.size_bytes]
        if not self.in_archive:
            return (self.path / image.name).read_bytes()
        with self.path.open("rb") as file:  # opened each time: works in any worker process
            file.seek(image.offset)
            return file.read(image.size_bytes)


def labels_of(images: Sequence[Image], classes: Sequence[str], path: Path) -> tuple[int, ...]:
    """Each image's place in `classes`; raises UsageError naming the classes that are not in there."""
    places = {name: place for place, name in enumerate(classes)}
    unknown = sorted({image.class_name for image in images} - set(places))
    if unknown:
        raise UsageError(
            f"{path}: every class must be one that the network is trained for, got "
            f"{_some(unknown)} in '{images[0].split}', which is not among {_some(classes)}"
        )
    return tuple(places[image.class_name] for image in images)


def open_images(path: Path) -> Images:
    """The index of the folder or archive at `path`.

    Raises UsageError when it is not there, has no such layout, or has class folders without images;
    FileFormatError when the archive is corrupt.
    """
    if path.is_dir():
        found, folders, memory = _list_folder(path), _class_folders(path), None
    elif path.is_file():
        found, folders, memory = _list_archive(path)
    else:
        raise UsageError(f"no such data folder or archive: {path}; {LAYOUT}")
    found = sorted({image.name: image for image in found}.values(), key=lambda image: image.name)
    images = tuple(image for image in found if image.size_bytes)
    empty = tuple(image.name for image in found if not image.size_bytes)
    if not images:
        raise UsageError(f"{path}: there are no images; {LAYOUT}")
    filled = {(image.split, image.class_name) for image in images}
    folders |= {(image.split, image.class_name) for image in found}
    hollow = [f"{split}/{name}" for split, name in sorted(folders - filled)]
    if hollow:
        raise UsageError(
            f"{path}: a class folder must hold images ({', '.join(SUFFIXES)}), got none in "
            f"{_some(hollow)}: fill or remove {'it' if len(hollow) == 1 else 'them'}"
        )
    return Images(path=path, images=images, empty=empty, in_archive=path.is_file(), memory=memory)


def subset(images: Sequence[Image], limit: int, seed: int) -> tuple[Image, ...]:
    """At most `limit` of the images: equally many of each class, drawn with `seed`, order kept.

    Classes with fewer images give what they have. Raises UsageError when `limit` is below the number
    of classes.
    """
    by_class: dict[str, list[Image]] = {}
    for image in images:
        by_class.setdefault(image.class_name, []).append(image)
    if limit < len(by_class):
        raise UsageError(f"a limit must leave each of the {len(by_class)} classes an image, got {limit}")
    share, rest = divmod(limit, len(by_class))
    kept: set[str] = set()
    for place, name in enumerate(sorted(by_class)):
        count = min(len(by_class[name]), share + (place < rest))
        drawn = random.Random(f"{seed} {name}").sample(by_class[name], count)
        kept.update(image.name for image in drawn)
    return tuple(image for image in images if image.name in kept)


def _list_folder(root: Path) -> list[Image]:
    found = []
    for split in SPLITS:
        for folder, folders, files in os.walk(root / split):
            folders.sort()
            inner = PurePosixPath(Path(folder).relative_to(root).as_posix())
            for file in files:
                if len(inner.parts) >= 2 and _is_image(file):
                    size_bytes = (Path(folder) / file).stat().st_size
                    found.append(Image(str(inner / file), split, inner.parts[1], size_bytes, 0))
    return found


def _class_folders(root: Path) -> set[tuple[str, str]]:
    return {
        (split, folder.name)
        for split in SPLITS
        if (root / split).is_dir()
        for folder in (root / split).iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _list_archive(path: Path) -> tuple[list[Image], set[tuple[str, str]], bytes | None]:
    compressed = path.name.lower().endswith(COMPRESSED_SUFFIXES)
    if not compressed and path.suffix.lower() != ".tar":
        raise UsageError(f"data must be a folder or a tar, got the file {path}; {LAYOUT}")
    found: list[Image] = []
    folders: set[tuple[str, str]] = set()
    memory = bytearray()
    file_bytes = path.stat().st_size
    try:
        with tarfile.open(path, mode="r|*" if compressed else "r:") as archive:
            for member in archive:
                place = _place(member.name)
                if place is None:
                    continue
                name, split, class_name = place
                if member.isdir():
                    folders.add((split, class_name))
                if not (member.isreg() and name.count("/") >= 2 and _is_image(name.rpartition("/")[2])):
                    continue
                offset = member.offset_data
                if compressed:
                    offset = len(memory)
                    if offset + member.size > MAX_MEMORY_BYTES:
                        raise UsageError(
                            f"{path}: a compressed archive is kept in memory and may hold at most "
                            f"{MAX_MEMORY_BYTES} bytes of images: unpack it (tar xf) and give the folder"
                        )
                    content = archive.extractfile(member)
                    memory += content.read() if content else b""
                    complete = len(memory) == offset + member.size
                else:
                    complete = offset + member.size <= file_bytes
                if not complete:
                    raise tarfile.ReadError(f"'{member.name}' is cut off")
                found.append(Image(name, split, class_name, member.size, offset))
        if not compressed and not _has_end_mark(path):
            raise tarfile.ReadError("its end is missing")
    except HwnasError:
        raise
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a whole tar archive: {error}: fetch or pack it again") from None
    return found, folders, bytes(memory) if compressed else None


def _has_end_mark(path: Path) -> bool:
    """Whether a tar ends with a block of zeros; one cut between two files is like a shorter one but
    for this."""
    with path.open("rb") as file:
        file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
        return file.read() == bytes(tarfile.BLOCKSIZE)


def _place(member_name: str) -> tuple[str, str, str] | None:
    """(name from the split on, split, class): archives often have a folder around everything."""
    parts = PurePosixPath(member_name).parts
    for index, part in enumerate(parts[:-1]):
        if part in SPLITS:
            return "/".join(parts[index:]), part, parts[index + 1]
    return None


def _is_image(file: str) -> bool:
    return not file.startswith(".") and file.lower().endswith(SUFFIXES)


def _some(names: Iterable[str], shown: int = 5) -> str:
    names = list(names)
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + rest
