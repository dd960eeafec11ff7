"""Which images a data set holds, and their bytes. Nothing is decoded here.

    FOLDER      DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test)
    ARCHIVE     the same inside a tar: `hwnas.train.archives`
    SHARDS      a folder of tars, as web datasets are: `hwnas.train.shards`
    NAME:PATH   a set that torchvision knows, on disk: `hwnas.train.named_sets`

An index pass lists everything; after it, any image is read by itself.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hwnas.errors import UsageError
from hwnas.train.archives import COMPRESSED_SUFFIXES, members, members_in_memory

__all__ = ["Image", "Images", "indexed", "is_image", "labels_of", "open_images", "subset"]

SPLITS = ("train", "val", "test")
EVALUATION_SPLITS = ("val", "test")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

LAYOUT = (
    "expected are DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test), as a folder or inside a "
    ".tar, .tar.gz, .tar.bz2 or .tar.xz; or shards DATA/train-*.tar and DATA/val-*.tar; or NAME:PATH"
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
    empty: tuple[str, ...]
    """Names of files without a byte, which are left out."""
    memory: bytes | None = None
    """All images, one after the other, where they cannot be read from their files one by one."""

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
            f"{path}: every class must be one that the network is trained for, got "
            f"{_some(unknown)} in '{images[0].split}', which is not among {_some(classes)}"
        )
    return tuple(places[image.class_name] for image in images)


def open_images(path: Path | str) -> Images:
    """The index of the data set at `path`, a folder, an archive or NAME:PATH.

    Raises UsageError when it is not there, has no such layout, or has class folders without images;
    FileFormatError when an archive is corrupt.
    """
    from hwnas.train.named_sets import open_named
    from hwnas.train.shards import find_shards, list_shards

    named = open_named(str(path))
    if named is not None:
        return named
    path = Path(path)
    memory = None
    if path.is_dir():
        found, folders = _list_folder(path), _class_folders(path)
        if not found and (shards := find_shards(path)):  # archives that were unpacked may lie beside
            found = list_shards(path, shards)
    elif path.is_file():
        found, folders, memory = _list_archive(path)
    else:
        raise UsageError(f"no such data folder or archive: {path}; {LAYOUT}")
    images = indexed(path, found, memory)
    filled = {(image.split, image.class_name) for image in images.images}
    folders |= {(image.split, image.class_name) for image in found}
    hollow = [f"{split}/{name}" for split, name in sorted(folders - filled)]
    if hollow:
        raise UsageError(
            f"{path}: a class folder must hold images ({', '.join(SUFFIXES)}), got none in "
            f"{_some(hollow)}: fill or remove {'it' if len(hollow) == 1 else 'them'}"
        )
    return images


def indexed(path: Path, found: Iterable[Image], memory: bytes | None = None) -> Images:
    """The images in the order of their names, without empty files; raises UsageError when none is left."""
    ordered = sorted({image.name: image for image in found}.values(), key=lambda image: image.name)
    images = tuple(image for image in ordered if image.size_bytes)
    if not images:
        raise UsageError(f"{path}: there are no images; {LAYOUT}")
    empty = tuple(image.name for image in ordered if not image.size_bytes)
    return Images(path=path, images=images, empty=empty, memory=memory)


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
                if len(inner.parts) >= 2 and is_image(file):
                    size_bytes = (Path(folder) / file).stat().st_size
                    name = str(inner / file)
                    found.append(Image(name, split, inner.parts[1], size_bytes, 0, name))
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
    memory = None
    if path.name.lower().endswith(COMPRESSED_SUFFIXES):
        listed, memory = members_in_memory(path, _is_image_in_class)
    elif path.suffix.lower() == ".tar":
        listed = members(path)
    else:
        raise UsageError(f"data must be a folder or a tar, got the file {path}; {LAYOUT}")
    found: list[Image] = []
    folders: set[tuple[str, str]] = set()
    for member in listed:
        place = _place(member.name)
        if place is None:
            continue
        name, split, class_name = place
        if member.is_folder:
            folders.add((split, class_name))
        elif _is_image_in_class(member.name):
            found.append(Image(name, split, class_name, member.size_bytes, member.offset))
    return found, folders, memory


def _is_image_in_class(member_name: str) -> bool:
    place = _place(member_name)
    return place is not None and place[0].count("/") >= 2 and is_image(place[0].rpartition("/")[2])


def _place(member_name: str) -> tuple[str, str, str] | None:
    """(name from the split on, split, class): archives often have a folder around everything."""
    parts = PurePosixPath(member_name).parts
    for index, part in enumerate(parts[:-1]):
        if part in SPLITS:
            return "/".join(parts[index:]), part, parts[index + 1]
    return None


def is_image(file: str) -> bool:
    """Whether a file is an image, by its name."""
    return not file.startswith(".") and file.lower().endswith(SUFFIXES)


def _some(names: Iterable[str], shown: int = 5) -> str:
    names = list(names)
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + rest
