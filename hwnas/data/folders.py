"""A folder or an archive of images, listed: the split and the class of each image.

FOLDER      DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test)
ARCHIVE     the same inside a tar
SHARDS      a folder of tars, as web datasets have
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from hwnas.data.archives import COMPRESSED_SUFFIXES, find_shards, list_shards, members, members_in_memory
from hwnas.data.images import LAYOUT, SPLITS, SUFFIXES, Image, Images, indexed, is_image, quoted
from hwnas.errors import UsageError

__all__ = ["open_files"]


def open_files(path: Path) -> Images:
    """The index of the data set at `path`, a folder or an archive.

    Raises UsageError when it is not there, has no such layout, or has class folders without images;
    FileFormatError when an archive is corrupt.
    """
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
            f"{quoted(hollow)}: fill or remove {'it' if len(hollow) == 1 else 'them'}"
        )
    return images


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
