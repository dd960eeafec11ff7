"""A data set in COCO's format: where its parts lie, and that they belong together. Nothing is decoded here.

DATA/train/annotations.json, DATA/train/images/    and val (or test) alike
DATA/annotations/instances_train2017.json, DATA/train2017/    and val2017: COCO as it is unpacked
DATA/annotations.json, DATA/images/    one set: a fifth of the images is kept apart for evaluation
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from hwnas.data.images import is_hidden, printable
from hwnas.errors import FileFormatError, UsageError
from hwnas.io import json as json_io

__all__ = [
    "Annotations",
    "CocoData",
    "Outline",
    "Photo",
    "Thing",
    "open_coco",
    "some_of",
]


# --- one annotation file, checked as it is read -----------------------------------------------
# What says that a file is not what it should be - an unknown category, an image that is not there - is
# refused. What COCO's own files have here and there - a box without area or outside its image, an outline
# of two points - is left out and noted. An image without annotations is an example without objects.

MAX_ANNOTATION_BYTES = 4 * 1024**3
"""COCO's own training set has 0.5 GB of them."""

MAX_SIDE = 65_535
MOST = 1e12
"""No number of an annotation is that large, and NaN and infinity are not below it."""
THINNEST = 0.01
"""Pixels that a box must have at least within its image, either way."""

Outline = tuple[tuple[float, ...], ...] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thing:
    """One annotated object."""

    id: int
    category: int
    """Place in the data's `classes`."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels, within the image."""
    area: float
    """In pixels, as the file says it, else the box's."""
    crowd: bool
    """A region of many objects: not learnt from, and neither right nor wrong in an evaluation."""
    outline: Outline | None
    """Polygons (x, y, x, y, ...), or a run-length encoding of the mask; None where the file has none."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One image with its objects."""

    id: int
    path: Path
    width: int
    height: int
    things: tuple[Thing, ...]

    @property
    def name(self) -> str:
        """What a user would call it: split or folder, and file."""
        return printable("/".join(self.path.parts[-3:]))


class Annotations:
    """One annotation file and the folder of its images; `left_out` says what is not used, and why.

    Raises FileFormatError when the file is broken, contradicts itself, or names an image that is not there.
    """

    def __init__(self, file: Path, folder: Path, outlines: bool) -> None:
        self.file, self.folder, self.outlines = file, folder, outlines
        self.left_out: list[tuple[str, str]] = []
        try:
            document = json_io.read(file, max_bytes=MAX_ANNOTATION_BYTES)
        except FileFormatError as error:
            raise FileFormatError(f"{error}: not a whole JSON file") from None
        if not isinstance(document, dict):
            raise self._broken(f"must be a mapping, got {type(document).__name__}")
        self.images, annotations, categories = (
            self._by_id(document, name) for name in ("images", "annotations", "categories")
        )
        self.categories: dict[int, str] = {}
        for key in sorted(categories):
            name = categories[key].get("name")
            if not isinstance(name, str) or not name or name in self.categories.values():
                raise self._broken(f"category {key} must have a name of its own, got {name!r}")
            self.categories[key] = name
        self.of_image: dict[int, list[dict[str, Any]]] = {key: [] for key in self.images}
        for key, annotation in annotations.items():
            for field, known in (("image_id", self.images), ("category_id", self.categories)):
                value = annotation.get(field)
                if type(value) is not int or value not in known:
                    what = {"image_id": "an image", "category_id": "a category"}[field]
                    raise self._broken(
                        f"annotation {key}: {field} must be {what} of this file, got {value!r}"
                    )
            self.of_image[annotation["image_id"]].append(annotation)

    def photos(self, classes: tuple[str, ...]) -> Iterator[Photo]:
        """The images in the order of their ids, each with its objects."""
        places = {key: classes.index(name) for key, name in self.categories.items()}
        absent: list[str] = []
        taken: dict[Path, int] = {}
        for key in sorted(self.images):
            image = self.images[key]
            name = self._inside(key, image.get("file_name"))
            if is_hidden(name):
                self.left_out.append((f"image {key} in {self.file}", f"'{printable(name)}' is hidden"))
                continue
            path = self._found(name)
            if path is None:
                absent.append(printable(name))
                continue
            if taken.setdefault(path, key) != key:
                raise self._broken(f"images {taken[path]} and {key} have one file, '{printable(name)}'")
            width, height = (self._side(key, image, name) for name in ("width", "height"))
            things = (self._thing(one, places, width, height) for one in self.of_image[key])
            yield Photo(key, path, width, height, tuple(thing for thing in things if thing is not None))
        if absent:
            more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
            nowhere = "" if self.folder.is_dir() else " (there is no such folder)"
            raise FileFormatError(
                f"{self.file}: every image must be in {self.folder}{nowhere} or beside the annotations, by "
                f"its file_name; missing are {', '.join(absent[:3])}{more}"
            )

    def _found(self, name: str) -> Path | None:
        """The file of an image: in the folder of images, or where the annotations lie."""
        for path in (self.folder / name, self.file.parent / name):
            try:
                if path.is_file():
                    return path
            except (OSError, ValueError):  # no name that a file can have
                pass
        return None

    def _thing(
        self, annotation: Mapping[str, Any], places: Mapping[int, int], width: int, height: int
    ) -> Thing | None:
        """The object, or None where there is nothing to see of it, which is noted."""
        key = annotation["id"]
        box: Any = annotation.get("bbox")
        if not _numbers(box, 4):
            raise self._broken(f"annotation {key}: bbox must be [left, top, width, height], got {box!r}")
        left, top = max(0.0, box[0]), max(0.0, box[1])
        right, bottom = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
        reason = ""
        if box[2] < THINNEST or box[3] < THINNEST:
            reason = "its box has no area"
        elif right - left < THINNEST or bottom - top < THINNEST:
            reason = "its box lies outside the image"
        outline = self._outline(key, annotation.get("segmentation"), width, height)
        if outline is None and self.outlines:
            reason = reason or "it has no outline"
        if reason:
            self.left_out.append((f"annotation {key} in {self.file}", reason))
            return None
        area: Any = annotation.get("area")
        return Thing(
            id=key,
            category=places[annotation["category_id"]],
            box=(left, top, right, bottom),
            area=float(area) if _numbers([area], 1) else (right - left) * (bottom - top),
            crowd=bool(annotation.get("iscrowd", 0)),
            outline=outline,
        )

    def _outline(self, key: int, found: Any, width: int, height: int) -> Outline | None:
        if isinstance(found, dict):
            size, counts = found.get("size"), found.get("counts")
            if size != [height, width]:
                raise self._broken(
                    f"annotation {key}: the mask must be of the image's size {[height, width]}, got {size!r}"
                )
            runs: Any = _runs(counts) if isinstance(counts, str) else counts
            if (
                not isinstance(runs, list)
                or not _numbers(runs, len(runs))
                or sum(runs) != width * height
                or min(runs) < 0
            ):
                raise self._broken(f"annotation {key}: the mask's counts must be runs that fill the image")
            return dict(found)
        if not isinstance(found, list):
            return None
        polygons = [tuple(map(float, one)) for one in found if isinstance(one, list) and _polygon(one)]
        return tuple(polygons) or None

    def _side(self, key: int, image: Mapping[str, Any], name: str) -> int:
        value = image.get(name)
        if type(value) is not int or not 1 <= value <= MAX_SIDE:
            raise self._broken(f"image {key}: {name} must be from 1 to {MAX_SIDE}, got {value!r}")
        return value

    def _inside(self, key: int, name: Any) -> str:
        """The image's file, which lies within its folder."""
        slashed = name.replace("\\", "/") if isinstance(name, str) else ""  # from Windows
        parts = PurePosixPath(slashed).parts
        if not parts or ".." in parts or parts[0].startswith("/"):
            raise self._broken(f"image {key}: file_name must be a file within {self.folder}, got {name!r}")
        return slashed

    def _by_id(self, document: Mapping[str, Any], name: str) -> dict[int, dict[str, Any]]:
        items = document.get(name)
        if not isinstance(items, list) or (not items and name != "annotations"):
            raise self._broken(f"'{name}' must be a list with an entry, got {type(items).__name__}")
        found: dict[int, dict[str, Any]] = {}
        for item in items:
            key = item.get("id") if isinstance(item, dict) else None
            if type(key) is not int or key in found:
                raise self._broken(f"'{name}': each must have a whole number of its own as id, got {key!r}")
            found[key] = item
        return found

    def _broken(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self.file}: {what}")


def _numbers(values: Any, count: int) -> bool:
    """Whether these are so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and abs(value) < MOST for value in values)
    )


def _polygon(values: list[Any]) -> bool:
    """Whether these are three points or more."""
    return len(values) >= 6 and len(values) % 2 == 0 and _numbers(values, len(values))


def _runs(text: str) -> list[int]:
    """The runs in COCO's compressed counts, empty where the text is none such.

    Five bits a character from '0' on, low ones first, 32 for more to come, the last one's 16 for a
    minus; from the fourth on, the difference to the run before the last. COCO's own decoder trusts what
    it reads.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return [] if shift else runs


# --- the folder of a data set -----------------------------------------------------------------


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
