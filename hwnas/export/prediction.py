"""Predictor: an exported file that answers photos. Classes, boxes or a class map, as text, data and drawing.

Needs numpy, Pillow and the format's runtime, no torch.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray

from hwnas.errors import FileFormatError, HwnasError
from hwnas.export.metadata import FileMetadata, metadata_in
from hwnas.export.postprocessing import Boxes, class_map, detections, probabilities
from hwnas.export.session import Session, session_of

__all__ = ["ClassesFound", "MapFound", "ObjectsFound", "Prediction", "Predictor"]

_OPACITY = 0.5
"""Of the colours of classes over a photo."""


class Prediction(Protocol):
    """What a network sees in a photo."""

    def text(self, top: int) -> str:
        """For people; `top` limits the classes of a classifier."""

    def to_dict(self, top: int) -> dict[str, Any]:
        """For programs."""

    def drawn(self, photo: PIL.Image.Image, top: int) -> PIL.Image.Image:
        """The photo with it."""


@dataclass(frozen=True, slots=True)
class ClassesFound:
    """How likely each class is."""

    probabilities: NDArray[np.float32]
    """(classes,)"""
    names: Sequence[str]

    def best(self, top: int) -> list[tuple[str, float]]:
        """(class, probability) of the likeliest ones."""
        order = np.argsort(-self.probabilities, kind="stable")[:top]
        return [(self.names[place], float(self.probabilities[place])) for place in order]

    def text(self, top: int) -> str:
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.best(top))

    def to_dict(self, top: int) -> dict[str, Any]:
        return {"classes": [{"name": name, "probability": share} for name, share in self.best(top)]}

    def drawn(self, photo: PIL.Image.Image, top: int) -> PIL.Image.Image:
        picture = photo.copy()
        _label(PIL.ImageDraw.Draw(picture), (0, 0), self.text(top).replace(", ", "\n"), (0, 0, 0))
        return picture


@dataclass(frozen=True, slots=True)
class ObjectsFound:
    """Boxes with their classes."""

    found: Boxes
    names: Sequence[str]

    def _rows(self) -> list[tuple[str, int, float, list[float]]]:
        found = self.found
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        return [(self.names[label], label, score, box) for label, score, box in rows]

    def text(self, top: int) -> str:
        lines = [
            f"\n  {name} {100 * score:.1f} % at {' '.join(f'{side:.0f}' for side in box)}"
            for name, _, score, box in self._rows()
        ]
        return f"{len(lines)} objects (left top right bottom)" + "".join(lines)

    def to_dict(self, top: int) -> dict[str, Any]:
        return {
            "objects": [{"name": name, "score": score, "box": box} for name, _, score, box in self._rows()]
        }

    def drawn(self, photo: PIL.Image.Image, top: int) -> PIL.Image.Image:
        picture = photo.copy()
        canvas = PIL.ImageDraw.Draw(picture)
        for name, label, score, box in reversed(self._rows()):  # the likeliest on top
            colour = _colour(label, len(self.names))
            left, above = box[:2]
            right, below = max(left, box[2]), max(above, box[3])
            canvas.rectangle((left, above, right, below), outline=colour, width=2)
            _label(canvas, (left, above), f"{name} {100 * score:.0f} %", colour)
        return picture


@dataclass(frozen=True, slots=True)
class MapFound:
    """A class for every pixel; 0 is none of them."""

    classes: NDArray[np.uint8]
    """(height, width)"""
    names: Sequence[str]

    def _shares(self) -> list[tuple[str, float]]:
        counts = np.bincount(self.classes.reshape(-1), minlength=len(self.names) + 1) / self.classes.size
        named = zip(("none", *self.names), counts.tolist(), strict=True)
        return [(name, share) for name, share in named if share > 0]

    def text(self, top: int) -> str:
        return ", ".join(f"{name} {100 * share:.1f} % of the pixels" for name, share in self._shares())

    def to_dict(self, top: int) -> dict[str, Any]:
        return {"pixels": [{"name": name, "share": share} for name, share in self._shares()]}

    def drawn(self, photo: PIL.Image.Image, top: int) -> PIL.Image.Image:
        palette = [(0, 0, 0), *(_colour(label, len(self.names)) for label in range(len(self.names)))]
        colours = np.array(palette, np.float32)[self.classes]
        pixels = np.asarray(photo, np.float32)
        mixed = (1 - _OPACITY) * pixels + _OPACITY * colours
        seen = np.where(self.classes[:, :, None] > 0, mixed, pixels)
        return PIL.Image.fromarray(seen.round().astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Predictor:
    """An exported file, ready for photos."""

    metadata: FileMetadata
    session: Session

    @classmethod
    def open(cls, path: Path) -> Predictor:
        """The file's runtime and metadata.

        Raises UsageError when there is no such file, FileFormatError when it is damaged or without
        metadata, MissingPackageError when its runtime is not installed.
        """
        metadata = metadata_in(path)
        if metadata.task not in ("classify", "detect", "segment"):
            raise FileFormatError(f"{path}: unknown task '{metadata.task}'. Use a newer hwnas")
        return cls(metadata, session_of(path, metadata))

    def __call__(self, photo: PIL.Image.Image) -> Prediction:
        """What the network sees in an RGB photo; raises HwnasError when the runtime fails."""
        about = self.metadata
        prepared = about.preprocessing.prepared(photo)
        images: NDArray[Any] = prepared.images
        if about.preprocess == "inside":
            images = about.preprocessing.pixels(photo)[None]
        if about.batch is not None and about.batch > 1:  # a file for several images at once
            images = np.concatenate([images, np.zeros((about.batch - 1, *images.shape[1:]), images.dtype)])
        try:
            outputs = [output[0] for output in self.session(np.ascontiguousarray(images))]
        except Exception as error:  # runtimes' own errors have no common base
            raise HwnasError(f"the runtime cannot run {about.name}: {' '.join(str(error).split())}") from None
        if about.task == "classify":
            values = outputs[0] if about.preprocess == "inside" else probabilities(outputs[0])
            return ClassesFound(values, about.classes_names or [f"class {n}" for n in range(len(values))])
        names = about.classes_names or ()
        if about.task == "detect":
            settings = about.postprocessing or {}
            return ObjectsFound(detections(outputs[0], outputs[1], settings, prepared, photo.size), names)
        return MapFound(class_map(outputs[0], prepared, photo.size), names)


def _colour(label: int, count: int) -> tuple[int, int, int]:
    """A colour of its own for each class."""
    red, green, blue = colorsys.hsv_to_rgb(label / max(count, 1), 0.9, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _label(
    canvas: PIL.ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: tuple[int, int, int]
) -> None:
    """White text on a ground of the colour."""
    canvas.rectangle(canvas.multiline_textbbox(place, text), fill=colour)
    canvas.multiline_text(place, text, fill=(255, 255, 255))
