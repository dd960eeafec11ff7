"""A folder or an archive of images, listed: the split and the class of each image.

FOLDER      DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test)
FLAT        DATA/CLASS/*.jpg: a fifth of each class is held out as val
ARCHIVE     the same inside a tar
SHARDS      a folder of tars, as web datasets have
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hwnas.data.archives import COMPRESSED_SUFFIXES, find_shards, list_shards, members, members_in_memory
from hwnas.data.images import (
    LAYOUT,
    SPLITS,
    SUFFIXES,
    Image,
    Images,
    indexed,
    is_hidden,
    is_image,
    printable,
    quoted,
)
from hwnas.errors import UsageError

__all__ = ["open_files"]


def open_files(path: Path) -> Images:
    """The index of the data set at `path`, a folder or an archive.

    Raises UsageError when it is not there, has no such layout, or has class folders without images;
    FileFormatError when an archive is corrupt.
    """
    memory = None
    remark = ""
    left_out: list[tuple[str, str]] = []
    if path.is_dir():
        found, folders, left_out = _list_folder(path)
        if not found and (shards := find_shards(path)):  # archives that were unpacked may lie beside
            found = list_shards(path, shards)
        elif not found and not folders and (found := _held_out(path)):
            held = sum(image.split == "val" for image in found)
            remark = (
                f"{path} has no train and val folders: {held} of its {len(found)} images, a fifth of each "
                "class, are held out as val, chosen by their names"
            )
    elif path.is_file():
        found, folders, memory = _list_archive(path)
    else:
        raise UsageError(f"no such data folder or archive: {path}; {LAYOUT}")
    images = indexed(path, found, memory, left_out=left_out, remark=remark)
    filled = {(image.split, image.class_name) for image in images.images}
    folders |= {(image.split, image.class_name) for image in found}
    hollow = [f"{split}/{name}" for split, name in sorted(folders - filled)]
    if hollow:
        raise UsageError(
            f"{path}: a class folder must hold images ({', '.join(SUFFIXES)}), got none in "
            f"{quoted(hollow)}: fill or remove {'it' if len(hollow) == 1 else 'them'}"
        )
    return images


def _list_folder(root: Path) -> tuple[list[Image], set[tuple[str, str]], list[tuple[str, str]]]:
    """The images, the class folders as (split, class), and (name, reason) of what cannot be read."""
    found: list[Image] = []
    folders: set[tuple[str, str]] = set()
    left_out: list[tuple[str, str]] = []
    for split in SPLITS:
        if not (root / split).is_dir():
            continue
        for name, status in _walked(root / split, split, ()):
            parts = name.split("/")
            shown = printable(name)
            if isinstance(status, str):
                left_out.append((shown, status))
            elif stat.S_ISDIR(status.st_mode):
                if len(parts) == 2:
                    folders.add((split, printable(parts[1])))
            elif len(parts) >= 3 and is_image(name):
                found.append(Image(shown, split, printable(parts[1]), status.st_size, 0, name))
    return found, folders, left_out


def _held_out(root: Path) -> list[Image]:
    """The images of a folder of class folders, a fifth of each class in val; empty for any other folder.

    Those of a class whose names have the lowest digests are held out, so that they stay the same when
    images are added.
    """
    classes: dict[str, list[Image]] = {}
    for name, status in _walked(root, ".", ()):
        _, *parts = name.split("/")
        if (
            len(parts) == 2
            and is_image(name)
            and not isinstance(status, str)
            and stat.S_ISREG(status.st_mode)
        ):
            shown = printable("/".join(parts))
            image = Image(shown, "train", printable(parts[0]), status.st_size, 0, "/".join(parts))
            classes.setdefault(image.class_name, []).append(image)
    if len(classes) < 2:
        return []
    found = []
    for images in classes.values():
        images.sort(key=lambda image: hashlib.sha256(image.name.encode()).digest())
        held = max(1, len(images) // 5) if len(images) > 1 else 0
        found += [
            replace(image, split="val" if place < held else "train") for place, image in enumerate(images)
        ]
    return found


def _walked(
    folder: Path, name: str, within: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result | str]]:
    """Every folder and file below a folder, as (path, status); a reason where there is none to be had.

    What is hidden is left out. Links are followed, but not into a folder `within` which they lie.
    """
    own = folder.stat()
    within = (*within, (own.st_dev, own.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield name, error.strerror or str(error)
        return
    for entry in entries:
        if is_hidden(entry.name):
            continue
        path = f"{name}/{entry.name}"
        try:
            status = entry.stat()
        except OSError as error:
            if is_image(entry.name):
                reason = error.strerror or str(error)
                yield path, f"a link to nowhere: {reason}" if entry.is_symlink() else reason
            continue
        if stat.S_ISREG(status.st_mode):
            yield path, status
        elif stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in within:
            yield path, status
            yield from _walked(folder / entry.name, path, within)
        elif is_image(entry.name):
            yield path, "not a file"


def _list_archive(path: Path) -> tuple[list[Image], set[tuple[str, str]], bytes | None]:
    memory = None
    if path.name.lower().endswith(COMPRESSED_SUFFIXES):
        listed, memory = members_in_memory(path, _is_image_in_class)
    elif path.suffix.lower() == ".tar":
        listed = members(path)
    else:
        raise UsageError(f"data must be a folder or a tar, got the file {path}; {LAYOUT}")
    root = _root([member.name for member in listed if is_image(member.name)])
    found: dict[str, Image] = {}
    folders: set[tuple[str, str]] = set()
    for member in listed:
        place = _place(member.name, root)
        if place is None or is_hidden(member.name):
            continue
        name, split, class_name = (printable(text) for text in place)
        if member.is_folder:
            folders.add((split, class_name))
        elif _is_image_in_class(member.name):  # of two entries of one name the last counts, as for tar
            found[member.name] = Image(name, split, class_name, member.size_bytes, member.offset)
    return list(found.values()), folders, memory


def _is_image_in_class(member_name: str) -> bool:
    return is_image(member_name) and bool(_roots(PurePosixPath(member_name).parts))


def _roots(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The folders that can be the data set's, where this is an image in it: SPLIT/CLASS/... follow."""
    return [parts[:index] for index, part in enumerate(parts[:-2]) if part in SPLITS]


def _root(names: Sequence[str]) -> tuple[str, ...]:
    """The folder of an archive that holds the splits; archives often have a folder around everything.

    That may be called train, too: the right one has images to train on and others, the most of them.
    """
    splits: dict[tuple[str, ...], set[str]] = {}
    count: Counter[tuple[str, ...]] = Counter()
    for name in names:
        parts = PurePosixPath(name).parts
        for root in _roots(parts):
            splits.setdefault(root, set()).add(parts[len(root)])
            count[root] += 1
    return max(
        count, key=lambda root: ("train" in splits[root] and len(splits[root]) > 1, count[root]), default=()
    )


def _place(member_name: str, root: tuple[str, ...]) -> tuple[str, str, str] | None:
    """(name from the split on, split, class), below the folder `root` or else wherever a split is."""
    parts = PurePosixPath(member_name).parts
    places = [index for index, part in enumerate(parts[:-1]) if part in SPLITS]
    if not places:
        return None
    index = len(root) if parts[: len(root)] == root and len(root) in places else places[0]
    return "/".join(parts[index:]), parts[index], parts[index + 1]
