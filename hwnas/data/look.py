"""What a data set's images ask of a network: how large they are, and of how many classes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from hwnas import plugins
from hwnas.data.images import Images
from hwnas.errors import UsageError

__all__ = ["ImageSizes", "look_at", "network_size"]

SAMPLE = 256
"""Images that are looked at, spread over the training images."""

SMALL_SIDE, MIDDLE_SIDE = 80, 160


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """What was seen of a data set."""

    classes: int
    median_side: int
    """Of the shorter sides, in pixels."""
    looked_at: int
    """Images whose size was read."""


def look_at(images: Images) -> ImageSizes:
    """Number of classes, and the median shorter side of up to 256 training images.

    Only the images' headers are read. Raises UsageError when no image can be read, and as
    `Images.classes`.
    """
    plugins.require("PIL.Image", extra="torch")
    from hwnas.data.decoding import UnreadableImageError, sides_of

    classes = len(images.classes())
    training = images.split("train")
    sides = []
    for number in range(min(SAMPLE, len(training))):
        image = training[number * len(training) // min(SAMPLE, len(training))]
        try:
            sides.append(min(sides_of(images.read(image))))
        except (UnreadableImageError, OSError):
            continue
    if not sides:
        raise UsageError(f"{images.path}: no size could be read from its training images: give --image-size")
    return ImageSizes(classes, round(median(sides)), len(sides))


def network_size(median_side: int) -> tuple[int | None, int | None]:
    """(image size, stem stride) of networks for such images; (None, None) leaves the space's own.

    Small images get a stem that leaves the first stage about the 14 x 14 positions that it has on
    ImageNet: up to 80 pixels, 64 pixels and stride 4 (as the recipe `small`); up to 160 pixels, 128
    pixels and stride 8.
    """
    if median_side <= SMALL_SIDE:
        return 64, 4
    if median_side <= MIDDLE_SIDE:
        return 128, 8
    return None, None
