"""Images: which images a data set holds, by split and class, and their bytes. Nothing is decoded here."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hwnas.errors import FileFormatError, UsageError

__all__ = [
    "LAYOUT",
    "SPLITS",
    "SUFFIXES",
    "Image",
    "Images",
    "indexed",
    "is_hidden",
    "is_image",
    "labels_of",
    "printable",
    "quoted",
    "subset",
]

SPLITS = ("train", "val", "test")
EVALUATION_SPLITS = ("val", "test")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

LAYOUT = (
    "expected are DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test), as a folder or inside a "
    ".tar, .tar.gz, .tar.bz2 or .tar.xz; or a folder DATA/CLASS/*.jpg, of which a fifth is held out; or "
    "shards DATA/train-*.tar and DATA/val-*.tar; or NAME:PATH"
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
    """First byte within the file that holds it, or within what is kept in memory."""
    file: str = ""
    """The file that holds it, below the data set's folder; empty where the data set is one file."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a data set, by split."""

    path: Path
    images: tuple[Image, ...]
    """All of them that are not empty files, sorted by name."""
    left_out: tuple[tuple[str, str], ...]
    """(name, reason) of files that hold no image: without a byte, or links to nowhere."""
    memory: bytes | None = None
    """All images, one after the other, where they cannot be read from their files one by one."""
    remark: str = ""
    """What the user must know of the splits: a fifth of each class was held out."""

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
        with (self.path / image.file).open("rb") as file:  # opened each time: works in any worker process
            file.seek(image.offset)
            return file.read(image.size_bytes)


def labels_of(images: Sequence[Image], classes: Sequence[str], path: Path) -> tuple[int, ...]:
    """Each image's place in `classes`; raises UsageError naming the classes that are not in there."""
    places = {name: place for place, name in enumerate(classes)}
    unknown = sorted({image.class_name for image in images} - set(places))
    if unknown:
        raise UsageError(
            f"{path}: unknown classes in '{images[0].split}': "
            f"{quoted(unknown)} {'is' if len(unknown) == 1 else 'are'} not among {quoted(classes)}"
        )
    return tuple(places[image.class_name] for image in images)


def indexed(
    path: Path,
    found: Iterable[Image],
    memory: bytes | None = None,
    *,
    left_out: Iterable[tuple[str, str]] = (),
    remark: str = "",
) -> Images:
    """The images in the order of their names, without empty files.

    Raises UsageError when none is left, FileFormatError when two have one name.
    """
    ordered = sorted(found, key=lambda image: image.name)
    for one, other in itertools.pairwise(ordered):
        if one.name == other.name:
            raise FileFormatError(f"{path}: two images have the name '{one.name}'; names must be unique")
    images = tuple(image for image in ordered if image.size_bytes)
    empty = [(image.name, "0 bytes") for image in ordered if not image.size_bytes]
    without = tuple(sorted([*empty, *left_out]))
    if not images:
        left = f" ({without[0][0]}: {without[0][1]})" if without else ""
        raise UsageError(f"{path}: there are no images{left}; {LAYOUT}")
    return Images(path=path, images=images, left_out=without, memory=memory, remark=remark)


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


LITTER = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found")
"""Folders that systems keep copies, thumbnails and rubbish in, beside those that begin with a dot."""


def is_hidden(name: str) -> bool:
    """Whether a path below a data set leads through a hidden file or folder."""
    return any(part.startswith(".") or part in LITTER for part in PurePosixPath(name).parts)


def is_image(name: str) -> bool:
    """Whether a path below a data set is that of an image, by its name; hidden ones are none."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def printable(name: str) -> str:
    """A file's name as it can be printed and written anywhere; bytes that are not UTF-8 become `\\xe9`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # of a text that is no file's name
        return name.encode("utf-8", "backslashreplace").decode()


def quoted(names: Iterable[str], shown: int = 5) -> str:
    """The first few names in quotes, and how many more there are."""
    names = list(names)
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + rest
