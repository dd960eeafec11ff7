"""The user's images as estimators see them: a few of each class, decoded once, at a network's size."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import plugins
from hwnas.data.images import Image, Images, subset
from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.space.arch import ArchSpec

if TYPE_CHECKING:
    from hwnas.data.pixels import Pixels

__all__ = ["Samples", "open_samples"]


@dataclass(frozen=True, slots=True)
class Samples:
    """A data set, and how networks are fitted to it."""

    images: Images
    classes: tuple[str, ...]
    side: int | None
    """Of the images, in pixels; None takes each network's own resolution."""
    stem_stride: int | None
    """Which stem a network gets; None leaves it its own."""
    digest: str
    """16 hex digits that tell these images from others."""
    _decoded: dict[tuple[str, int, int], Pixels] = field(default_factory=dict)

    def adapted(self, arch: ArchSpec) -> ArchSpec:
        """The network for these images and classes."""
        return arch.adapted(resolution=self.side, classes=len(self.classes), stem_stride=self.stem_stride)

    def pixels(self, split: str, count: int, side: int) -> Pixels:
        """So many images of a split (`train`, or what is evaluated on), always the same ones.

        Equally many of each class as far as that goes, spread evenly over the order; all of the split
        when it has fewer.
        """
        from hwnas.data.pixels import decoded

        key = (split, count, side)
        if key not in self._decoded:
            chosen = _chosen(self.images.split(split), count, len(self.classes))
            pixels = decoded(self.images, chosen, self.classes, side=side)
            self._decoded[key] = pixels.first(len(pixels))
        return self._decoded[key]


def open_samples(estimator: str, data: str, *, side: int | None, stem_stride: int | None) -> Samples:
    """The data set that an estimator's argument names.

    Raises UsageError when there is none, MissingPackageError without torch.
    """
    if not data:
        raise UsageError(
            f"the accuracy estimator '{estimator}' looks at images: name them as '{estimator}:DATA', a "
            "folder or tar with train/CLASS/*.jpg"
        )
    plugins.require("torch", extra="torch")
    images = open_images(Path(data))
    digest = hashlib.sha256()
    for image in images.images:
        digest.update(f"{image.name} {image.size_bytes}\n".encode())
    return Samples(images, images.classes(), side, stem_stride, digest.hexdigest()[:16])


def _chosen(images: Sequence[Image], count: int, classes: int) -> Sequence[Image]:
    if count >= classes:
        return subset(images, count, 0)
    return random.Random(0).sample(list(images), min(count, len(images)))
