"""The images of a supernet: trained on, held back to tell accuracy by, and to take BatchNorm's statistics on.

All are training images; those of val and test stay unseen, for the networks that are chosen in the end.
The images for evaluation are stored beside the weights, so that a trained supernet needs no data folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from hwnas.data.images import Image, Images, subset
from hwnas.data.pixels import Pixels, decoded
from hwnas.errors import FileFormatError, UsageError
from hwnas.io.tensors import read_sealed, sealed
from hwnas.supernet.settings import Settings
from hwnas.train.callbacks import Callback
from hwnas.train.checkpoint import put

__all__ = [
    "IMAGES",
    "EvaluationImages",
    "fitting",
    "read_evaluation_images",
    "resized",
    "selected",
    "split_images",
    "training_images",
    "write_evaluation_images",
]

IMAGES = "images.safetensors"
KIND, FORMAT = "hwnas supernet images", 1  # 1: the first one
MAX_BYTES = 16 * 1024**3
"""Of decoded training images in memory."""


@dataclass(frozen=True, slots=True)
class EvaluationImages:
    """The images that subnets are evaluated on, and those that BatchNorm is recalibrated on."""

    held_back: Pixels
    calibration: Pixels

    def to(self, device: str) -> EvaluationImages:
        """The same on another device."""
        return EvaluationImages(self.held_back.to(device), self.calibration.to(device))


def selected(images: Images, limit: int | None, seed: int) -> tuple[Image, ...]:
    """The training images; of more than `limit`, so many, equally many of each class."""
    every = images.split("train")
    return every if limit is None else subset(every, limit, seed)


def fitting(settings: Settings, images: Images, limit: int | None, callback: Callback) -> Settings:
    """The settings; where the default number of held-back images is too large, a fifth is held back."""
    every = len(selected(images, limit, settings.seed))
    if settings.held_back != Settings().held_back or settings.held_back <= every // 2:
        return settings
    held = max(len(images.classes()), every // 5)
    callback.note(f"{held} of {every} training images are held back to measure accuracy on")
    return dataclasses.replace(settings, held_back=held)


def split_images(
    images: Images, *, side: int, limit: int | None, held_back: int, calibration: int, seed: int
) -> tuple[Pixels, EvaluationImages]:
    """(training images, evaluation images), decoded at `side` pixels.

    `limit` keeps that many of the training images, `held_back` is how many of these are not trained on;
    both equally many of each class, drawn by `seed`. The images for BatchNorm are among those trained on.
    Raises UsageError when none are left to train on, or when they don't fit into memory.
    """
    classes = images.classes()
    kept = _split(images, limit, held_back, seed)
    _require_memory(sum(map(len, kept)), side)
    pixels = [decoded(images, some, classes, side=side) for some in kept]
    return pixels[0], EvaluationImages(held_back=pixels[1], calibration=pixels[0].first(calibration))


def training_images(
    images: Images, *, side: int, limit: int | None, held_back: int, seed: int, most: int
) -> Pixels:
    """What `divided` gives to train on; of more than `most` images, so many, equally many of each class.

    Raises UsageError as `divided`.
    """
    chosen, _ = _split(images, limit, held_back, seed)
    if len(chosen) > most:
        chosen = subset(chosen, max(most, len(images.classes())), seed)
    _require_memory(len(chosen), side)
    return decoded(images, chosen, images.classes(), side=side)


def _split(
    images: Images, limit: int | None, held_back: int, seed: int
) -> tuple[Sequence[Image], Sequence[Image]]:
    """(what is trained on, what is held back)."""
    every = selected(images, limit, seed)
    if held_back > len(every) // 2:
        raise UsageError(
            f"at most half of the training images can be held back, got {held_back} of {len(every)}"
        )
    kept = {image.name for image in subset(every, held_back, seed + 1)}
    return [image for image in every if image.name not in kept], [
        image for image in every if image.name in kept
    ]


def _require_memory(count: int, side: int) -> None:
    size = count * 3 * side * side
    if size > MAX_BYTES:
        raise UsageError(
            f"decoded images must fit into {MAX_BYTES >> 30} GiB, got {count} of {side} pixels: "
            f"{size / 2**30:.0f} GiB: choose a smaller --image-size, or a --limit"
        )


def write_evaluation_images(images: EvaluationImages, folder: Path) -> None:
    """Writes `images.safetensors`; raises HwnasError when it cannot be written."""
    tensors: dict[str, torch.Tensor] = {}
    for name, pixels in (
        ("held_back", images.held_back),
        ("calibration", images.calibration),
    ):
        tensors |= {f"{name}/images": pixels.images, f"{name}/labels": pixels.labels}
    document = {"kind": KIND, "format": FORMAT, "classes": list(images.held_back.classes)}
    put(sealed(tensors, document), folder / IMAGES)


def read_evaluation_images(folder: Path) -> EvaluationImages:
    """What `write_evaluation_images` wrote; raises FileFormatError when it is damaged or foreign."""
    document, tensors = read_sealed(folder / IMAGES, kind=KIND, version=FORMAT)
    try:
        classes = tuple(document["classes"])
        held_back, calibration = (
            Pixels(
                tensors[f"{name}/images"].contiguous(memory_format=torch.channels_last),
                tensors[f"{name}/labels"],
                classes,
            )
            for name in ("held_back", "calibration")
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"{folder / IMAGES}: not a supernet's images: {error}") from None
    return EvaluationImages(held_back=held_back, calibration=calibration)


# --- images at other sizes, for spaces with several resolutions -------------------------------


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 3, side, side); the same object where that is its size."""
    if images.shape[-1] == side:
        return images
    smaller = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return smaller.contiguous(memory_format=torch.channels_last)
