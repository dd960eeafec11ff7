"""A data set in COCO's format: where its parts lie, and that they belong together. Nothing is decoded here.

DATA/train/annotations.json, DATA/train/images/    and val (or test) alike
DATA/annotations/instances_train2017.json, DATA/train2017/    and val2017: COCO as it is unpacked
DATA/annotations.json, DATA/images/    one set: a fifth of the images is kept apart for evaluation
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

from hwnas.dense.annotations import Annotations, Photo
from hwnas.errors import FileFormatError, UsageError

__all__ = ["CocoData", "open_coco", "some_of"]

LAYOUT = (
    "expected are DATA/train/annotations.json with DATA/train/images/ and val (or test) alike, or "
    "DATA/annotations.json with DATA/images/, or COCO's own folders (annotations/instances_train2017.json, "
    "train2017/)"
)


@dataclass(frozen=True, slots=True)
class CocoData:
    """A data set: what is trained on, and what is evaluated on."""

    path: Path
    classes: tuple[str, ...]
    """Names of the categories, by their ids."""
    train: tuple[Photo, ...]
    evaluation: tuple[Photo, ...]
    left_out: tuple[tuple[str, str], ...]
    """(annotation, reason) of what is not used."""


def open_coco(path: Path, *, outlines: bool) -> CocoData:
    """The annotations below the folder `path`; with `outlines`, objects without one are left out.

    Raises UsageError when there is no such layout or nothing to learn, FileFormatError when a file is
    broken, contradicts itself, or names an image that is not there.
    """
    sets = [Annotations(file, folder, outlines) for file, folder in _located(path)]
    first = sets[0]
    for other in sets[1:]:
        unknown = [name for name in other.categories.values() if name not in first.categories.values()]
        if unknown:
            raise FileFormatError(
                f"{other.file}: every category must be one of {first.file}, got '{unknown[0]}'"
            )
    classes = tuple(first.categories.values())
    photos = [tuple(one.photos(classes)) for one in sets]
    train, evaluation = photos if len(photos) == 2 else _parted(photos[0])
    if not any(photo.things for photo in train):
        raise UsageError(f"{first.file}: there must be an object to learn from, got none")
    if not evaluation:
        raise UsageError(f"{path}: there must be images to evaluate on, got {len(train)} image in all")
    left_out = tuple(item for one in sets for item in one.left_out)
    return CocoData(path, classes, train, evaluation, left_out)


def some_of(data: CocoData, limit: int, seed: int) -> CocoData:
    """The data with at most `limit` training images, drawn with `seed`, order kept.

    Raises UsageError when `limit` is below 2, or leaves no object to learn from.
    """
    if limit < 2:
        raise UsageError(f"a limit must leave at least 2 images, got {limit}")
    chosen = set(random.Random(seed).sample(range(len(data.train)), min(limit, len(data.train))))
    train = tuple(photo for number, photo in enumerate(data.train) if number in chosen)
    if not any(photo.things for photo in train):
        raise UsageError(f"a limit must leave an object to learn from, got none with {limit}: take more")
    return replace(data, train=train)


def _located(path: Path) -> list[tuple[Path, Path]]:
    """(annotation file, image folder) of the training and the evaluation set, or of the only one."""
    if not path.is_dir():
        raise UsageError(f"no such data folder: {path}; {LAYOUT}")
    pairs: dict[str, tuple[Path, Path]] = {}
    for split in ("train", "val", "test"):
        own = path / split / "annotations.json"
        if own.is_file():
            pairs[split] = own, path / split / "images"
            continue
        for file in sorted((path / "annotations").glob(f"instances_{split}*.json")):
            pairs[split] = file, path / file.stem.removeprefix("instances_")
    if "train" in pairs and ("val" in pairs or "test" in pairs):
        return [pairs["train"], pairs.get("val") or pairs["test"]]
    if (path / "annotations.json").is_file():
        return [(path / "annotations.json", path / "images")]
    raise UsageError(f"{path}: no annotations there; {LAYOUT}")


def _parted(photos: tuple[Photo, ...]) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Four fifths and one fifth, drawn by the images' names: the same each time."""
    drawn = sorted(photos, key=lambda photo: hashlib.sha256(photo.path.name.encode()).digest())
    kept_apart = {photo.id for photo in drawn[: max(1, len(photos) // 5)]} if len(photos) > 1 else set()
    train = tuple(photo for photo in photos if photo.id not in kept_apart)
    return train, tuple(photo for photo in photos if photo.id in kept_apart)
