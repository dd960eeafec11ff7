"""Preprocessing: what is done to a photo before a network sees it, as data and as numpy. No torch.

There are two rules, by `resize`:

    crop    Classifiers, as the evaluation of `hwnas.data.loader`: Pillow scales the shorter side to
            `shorter_side` (antialiased), and the centre is cut out.
    fit     Detectors and segmentation networks, as torchvision's transform: bilinear without
            antialiasing, so that the shorter side is `shorter_side`, or less where the longer side would
            exceed `longest_side` or the input; at the top left of the input, the rest is 0 after
            normalisation.

Both divide by 255, subtract `mean` and divide by `std`, channel by channel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import FileFormatError

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["MEAN", "STD", "Prepared", "Preprocessing", "bilinear", "for_classifier"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, in units of 255, as everywhere in hwnas."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A photo as a network takes it."""

    images: Array
    """(1, 3, H, W), normalised."""
    height: int
    """Rows of the input that the photo fills; all of them where it was cropped."""
    width: int


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a photo becomes the input of a network."""

    height: int
    """Of the network's input, in pixels."""
    width: int
    resize: str
    """crop or fit, see above."""
    shorter_side: int
    """Pixels of the photo's shorter side after scaling."""
    longest_side: int | None = None
    """Limit of the longer side after scaling, for `fit`."""
    interpolation: str = "bicubic"
    """bicubic (Pillow's, antialiased) or bilinear (not antialiased, half-pixel centres)."""
    color_order: str = "RGB"
    divide_by: float = 255.0
    """Before mean and std: values are from 0 to 1 then."""
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def __post_init__(self) -> None:
        known = {"crop": "bicubic", "fit": "bilinear"}
        if known.get(self.resize) != self.interpolation or self.color_order != "RGB":
            raise FileFormatError(
                "preprocessing: this hwnas crops with bicubic and fits with bilinear interpolation, in RGB; "
                f"got {self.resize}, {self.interpolation}, {self.color_order}. Use a newer hwnas"
            )
        if min(self.height, self.width, self.shorter_side, self.longest_side or 1) < 1:
            raise FileFormatError(f"preprocessing: sides must be 1 or more, got {self}")

    def prepared(self, photo: PIL.Image.Image) -> Prepared:
        """The RGB photo as the network takes it."""
        if self.resize == "crop":
            pixels = self.pixels(photo)
            return Prepared(self.normalised(pixels)[None], self.height, self.width)
        wide, high = self.fitted(photo.width, photo.height)
        inside = bilinear(self.normalised(np.asarray(photo)), high, wide)
        images = np.zeros((1, 3, self.height, self.width), np.float32)
        images[0, :, :high, :wide] = inside
        return Prepared(images, high, wide)

    def pixels(self, photo: PIL.Image.Image) -> NDArray[np.uint8]:
        """The photo scaled and its centre cut out, (H, W, 3); for `crop`."""
        import PIL.Image

        shorter = min(photo.size)
        wide, high = (int(self.shorter_side * side / shorter) for side in photo.size)
        photo = photo.resize((wide, high), PIL.Image.Resampling.BICUBIC)
        left, top = round((wide - self.width) / 2), round((high - self.height) / 2)
        return np.asarray(photo.crop((left, top, left + self.width, top + self.height)))

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a photo after scaling, for `fit`."""
        scale = self.shorter_side / min(width, height)
        if self.longest_side is not None:
            scale = min(scale, self.longest_side / max(width, height))
        scale = min(scale, self.width / width, self.height / height)
        return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))

    def normalised(self, pixels: NDArray[np.uint8]) -> Array:
        """(H, W, 3) uint8 -> (3, H, W) float32."""
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        values = np.moveaxis(pixels, 2, 0).astype(np.float32) / np.float32(self.divide_by)
        result: Array = (values - mean) / std
        return result

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """What `to_dict` gave; raises TypeError, ValueError or FileFormatError for anything else."""
        mean, std = ((float(r), float(g), float(b)) for r, g, b in (data["mean"], data["std"]))
        return cls(**{**data, "mean": mean, "std": std})


def for_classifier(resolution: int, eval_crop: float) -> Preprocessing:
    """What the evaluation of `hwnas.data.loader` does for images of `resolution`."""
    return Preprocessing(resolution, resolution, "crop", math.floor(resolution / eval_crop))


def bilinear(values: Array, height: int, width: int) -> Array:
    """(..., H, W) -> (..., height, width): half-pixel centres, no antialiasing, as torch's interpolate."""
    for axis, size in ((-2, height), (-1, width)):
        before = values.shape[axis]
        if size == before:
            continue
        scale = np.float32(before / size)
        places = np.maximum(scale * (np.arange(size, dtype=np.float32) + 0.5) - 0.5, 0).astype(np.float32)
        low = np.minimum(places.astype(np.int64), before - 1)
        high = np.minimum(low + 1, before - 1)
        share = (places - low).astype(np.float32)
        share = share[:, None] if axis == -2 else share
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values
