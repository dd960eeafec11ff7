"""Pixels: images decoded once and kept as bytes in memory, with the augmentations that tensors allow.

For sets that fit into memory (CIFAR-10 at 32 pixels: 180 MB) and for what trains many networks, or one
for minutes: ground truth, weight sharing, short trainings, zero-cost estimates. Batches cost a copy
instead of a decoding, on the CPU or on the GPU where the pixels lie.

`hwnas train` does not use it: its recipes augment as the papers do, image by image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
import torch

from hwnas.data.decoding import UnreadableImageError, decode
from hwnas.data.images import Image, Images, labels_of
from hwnas.data.preprocessing import MEAN, STD
from hwnas.data.randomness import derived_seed
from hwnas.errors import FileFormatError

__all__ = ["Pixels", "decoded"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Square images of one size with their labels."""

    images: torch.Tensor
    """(N, 3, S, S), uint8."""
    labels: torch.Tensor
    """(N,), int64: the place in `classes`."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Of an image, in pixels."""
        return self.images.shape[-1]

    def to(self, device: str) -> Pixels:
        """The same on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def first(self, count: int) -> Pixels:
        """The first `count` images of an order that every class is spread over evenly."""
        order = torch.argsort(_place_in_class(self.labels), stable=True)[:count]
        return replace(self, images=self.images[order], labels=self.labels[order])

    def training_batches(
        self, batch_size: int, *, seed: int, epoch: int, share: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order, each image mirrored with probability 1/2 and shifted by up to an
        eighth of its side (edges reflected); a last, smaller batch is left out.

        Yields (B, 3, S, S) float32, normalised, and (B,) labels. All randomness follows from `seed`
        and `epoch`. `share` is (rank, processes): each of several processes gets its part of each batch,
        with the very images that one process would see there.
        """
        generator = torch.Generator().manual_seed(derived_seed(seed, "pixels", epoch))
        order = torch.randperm(len(self), generator=generator)
        batch_size = min(batch_size, len(self))
        rank, processes = share
        part = batch_size // processes
        mine = slice(rank * part, (rank + 1) * part)
        for start in range(0, len(self) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size][mine].to(self.labels.device)
            shifts, mirrored = self._changes(batch_size, generator)
            images = self._augmented(self.images[chosen], shifts[:, mine], mirrored[mine])
            yield images, self.labels[chosen]

    def evaluation_batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images in order, as they are: (B, 3, S, S) float32, normalised, and (B,) labels."""
        for start in range(0, len(self), batch_size):
            stop = start + batch_size
            yield _normalised(self.images[start:stop]), self.labels[start:stop]

    def _changes(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random shifts in pixels, (2, count, 1), and which images are mirrored, (count, 1)."""
        reach = max(1, self.side // 8)
        shifts = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
        return shifts, torch.rand(count, 1, generator=generator) < 0.5

    def _augmented(self, images: torch.Tensor, shifts: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
        """Shifted, mirrored, normalised: (B, 3, S, S)."""
        count, side = len(images), self.side
        steps = torch.arange(side)
        rows, columns = (_reflected(steps + shift, side) for shift in shifts)  # (B, S) each
        columns = torch.where(mirrored, columns.flip(1), columns)
        rows, columns = rows.to(images.device), columns.to(images.device)
        each = torch.arange(count, device=images.device)[:, None, None]
        moved = images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]  # (B, S, S, 3)
        return _normalised(moved.permute(0, 3, 1, 2))


def decoded(images: Images, selected: Sequence[Image], classes: Sequence[str], *, side: int) -> Pixels:
    """The selected images, each scaled so that its shorter side is `side`, and its centre cut out.

    Raises FileFormatError that names the images which cannot be decoded.
    """
    labels = labels_of(selected, classes, images.path)
    pixels = np.empty((len(selected), side, side, 3), dtype=np.uint8)
    bad: list[str] = []
    for number, image in enumerate(selected):
        try:
            pixels[number] = _square(decode(images.read(image)), side)
        except (UnreadableImageError, OSError) as error:
            bad.append(f"{image.name} ({error})")
    if bad:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise FileFormatError(
            f"{images.path}: every image must decode, got {len(bad)} that do not: {shown}: "
            "remove or replace them"
        )
    return Pixels(
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last),
        labels=torch.tensor(labels, dtype=torch.int64),
        classes=tuple(classes),
    )


def _square(picture: PIL.Image.Image, side: int) -> np.ndarray:
    if picture.size != (side, side):
        scale = side / min(picture.size)
        wide, high = (max(side, round(length * scale)) for length in picture.size)
        picture = picture.resize((wide, high), PIL.Image.Resampling.BICUBIC)
        left, top = (wide - side) // 2, (high - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    return np.asarray(picture)


def _normalised(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(MEAN, device=images.device).mul_(255)[:, None, None]
    deviation = torch.tensor(STD, device=images.device).mul_(255)[:, None, None]
    return images.float().sub_(mean).div_(deviation).contiguous(memory_format=torch.channels_last)


def _reflected(places: torch.Tensor, side: int) -> torch.Tensor:
    """Places outside of 0 .. side-1, mirrored at the edge."""
    places = places.abs()
    return torch.where(places >= side, 2 * (side - 1) - places, places)


def _place_in_class(labels: torch.Tensor) -> torch.Tensor:
    """For each image, how many of its class come before it: (N,)."""
    places = torch.empty_like(labels)
    for label in labels.unique():
        of_class = labels == label
        places[of_class] = torch.arange(int(of_class.sum()), device=labels.device)
    return places
