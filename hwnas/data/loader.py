"""Images -> batches of tensors: decoding and augmentation in worker processes, the same in any number.

An image that cannot be decoded never stops a training: it is left out of its batch and its name comes
with the batch. Palette, grey, CMYK, 16-bit and transparent images are converted to RGB.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.util
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch.utils.data import DataLoader, Dataset

from hwnas import plugins
from hwnas.data.decoding import UnreadableImageError, decode
from hwnas.data.images import Image, Images, labels_of
from hwnas.data.randomness import derived_seed, isolated
from hwnas.errors import HwnasError
from hwnas.foreign import GUARD

__all__ = [
    "Batch",
    "Batches",
    "Order",
    "Place",
    "UnreadableImageError",
    "deaths_told",
    "decode",
    "end_workers_at_exit",
    "evaluation_batches",
    "leave_signals",
    "training_batches",
    "worker_count",
]


# --- order of images, and loader processes ---------------------------------------------------


Place = tuple[int, int]  # epoch, number of the image


class Order:
    """A batch sampler: lists of (epoch, number), so that workers know the epoch as well.

    Shuffled, the order follows from the seed and the epoch, and a last, smaller batch is left out.
    `share` is (rank, processes): each of several processes has its part of each batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, shuffle: bool, share: tuple[int, int]) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.rank, self.processes = share
        self.epoch = 0

    def __len__(self) -> int:
        return self.count // self.batch_size if self.shuffle else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        order = np.arange(self.count)
        if self.shuffle:
            np.random.default_rng(derived_seed(self.seed, "order", self.epoch)).shuffle(order)
        for batch in range(len(self)):
            numbers = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            part = len(numbers) // self.processes
            mine = numbers[self.rank * part : (self.rank + 1) * part]
            yield [(self.epoch, int(number)) for number in mine]


def worker_count(asked: int, processes: int = 1) -> int:
    """Decoding processes on this machine where a recipe asks for so many (-1: one per spare core, at
    most 8), for each of so many training processes."""
    if asked >= 0:
        return asked
    spare = len(os.sched_getaffinity(0)) - processes if hasattr(os, "sched_getaffinity") else 2
    return min(8, max(1, spare // processes))


def end_workers_at_exit() -> None:
    """Whatever ends this process ends its decoding processes first, although they leave signals alone.

    Python would send them SIGTERM at its exit and wait for ever. Forked children forget this.
    """
    global _ends_workers
    if _ends_workers != os.getpid():
        _ends_workers = os.getpid()
        multiprocessing.util.Finalize(None, _end_workers, exitpriority=100)


_ends_workers = 0
"""The process that ends its decoding processes when it exits."""


def _end_workers() -> None:
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


@contextlib.contextmanager
def deaths_told() -> Iterator[None]:
    """Raises HwnasError where torch says that one of its processes has ended, with what to do."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise HwnasError(
            f"a process that decodes images has ended ({str(error).splitlines()[0]}), often for want of "
            f"memory: use fewer --workers. A script that trains must do so below a line `{GUARD}`"
        ) from None


def leave_signals(_: int) -> None:
    """What a decoding process does first."""
    # A signal to the whole process group is for the training process; it then ends its workers, which
    # would otherwise be gone first and look like a crash.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- batches ----------------------------------------------------------------------------------

Transform = Callable[[PIL.Image.Image], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How images are cropped and changed: the first five at random in training, the last in evaluation."""

    crop_scale_min: float = 0.08
    """A random crop covers from this share of the image to all of it."""
    horizontal_flip: float = 0.5
    """Probability of a mirrored image."""
    color_jitter: float = 0.0
    """Strength of brightness, contrast and saturation jitter; 0 is without."""
    auto_augment: str = ""
    """timm's policy string; empty is without."""
    random_erasing: float = 0.0
    """Probability that a rectangle of an image is erased."""
    eval_crop: float = 0.875
    """Side of the centre crop over the side that evaluation resizes to."""


class Batch(NamedTuple):
    """What an update, or a step of an evaluation, sees."""

    images: torch.Tensor
    """(B, 3, H, W), float32, normalised with ImageNet's mean and deviation. B is smaller than asked
    for by the images that are unreadable, and may be 0."""
    labels: torch.Tensor
    """(B,), int64."""
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of each image that could not be decoded."""


class Batches:
    """A split's images as batches, anew for each epoch. Iterate over `epoch(n)`; close when done."""

    def __init__(
        self,
        images: Images,
        selected: Sequence[Image],
        classes: Sequence[str],
        transform: Transform,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        workers: int,
        pin_memory: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`share` is (rank, processes): each of several processes has its part of each batch."""
        end_workers_at_exit()
        self.count = len(selected)
        batch_size = min(batch_size, self.count)
        self._order = Order(self.count, batch_size, seed, shuffle, share)
        labels = labels_of(selected, classes, images.path)
        self._loader: Any = DataLoader(
            _ImageDataset(images, tuple(selected), labels, transform, seed),
            batch_sampler=self._order,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._order)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch; order and augmentations follow from the seed and `number`."""
        self._order.epoch = number
        with deaths_told():
            with isolated("loader", number):  # the loader itself draws a seed that nothing here uses
                batches = iter(self._loader)
            yield from batches


def training_batches(
    images: Images,
    selected: Sequence[Image],
    classes: Sequence[str],
    augmentation: Augmentation,
    *,
    size: int,
    batch_size: int,
    seed: int,
    **options: Any,
) -> Batches:
    """Batches in random order with augmentations; a last, smaller batch is left out."""
    timm_data: Any = plugins.require("timm.data", extra="torch")
    transform = timm_data.create_transform(
        size,
        is_training=True,
        scale=(augmentation.crop_scale_min, 1.0),
        hflip=augmentation.horizontal_flip,
        color_jitter=augmentation.color_jitter or None,
        auto_augment=augmentation.auto_augment or None,
        interpolation="bicubic",
        re_prob=augmentation.random_erasing,
        re_mode="pixel",
    )
    _keep_a_bit(transform)
    return Batches(
        images, selected, classes, transform, batch_size=batch_size, seed=seed, shuffle=True, **options
    )


def evaluation_batches(
    images: Images,
    selected: Sequence[Image],
    classes: Sequence[str],
    augmentation: Augmentation,
    *,
    size: int,
    batch_size: int,
    seed: int,
    **options: Any,
) -> Batches:
    """Batches in the order of the names: each image resized and its centre cut out, nothing random."""
    timm_data: Any = plugins.require("timm.data", extra="torch")
    transform = timm_data.create_transform(
        size, is_training=False, crop_pct=augmentation.eval_crop, interpolation="bicubic"
    )
    return Batches(
        images,
        selected,
        classes,
        transform,
        batch_size=max(batch_size, 256),
        seed=seed,
        shuffle=False,
        **options,
    )


def _keep_a_bit(transform: Any) -> None:
    """Posterising keeps at least one bit: timm's strongest level keeps none, which Pillow refuses."""
    for step in transform.transforms:
        in_policies = [op for policy in getattr(step, "policy", ()) for op in policy]
        for op in (*getattr(step, "ops", ()), *in_policies):
            if str(getattr(op, "name", "")).startswith("Posterize"):
                op.level_fn = functools.partial(_at_least_a_bit, op.level_fn)


def _at_least_a_bit(level_fn: Callable[..., tuple[int, ...]], *level: Any) -> tuple[int, ...]:
    return tuple(max(1, bits) for bits in level_fn(*level))


class _ImageDataset(Dataset[Any]):
    def __init__(
        self,
        images: Images,
        selected: tuple[Image, ...],
        labels: tuple[int, ...],
        transform: Transform,
        seed: int,
    ) -> None:
        self.images, self.selected, self.labels = images, selected, labels
        self.transform, self.seed = transform, seed

    def __getitem__(self, place: Place) -> tuple[torch.Tensor, int] | tuple[str, str]:
        epoch, number = place
        image = self.selected[number]
        try:
            picture = decode(self.images.read(image))
        except (UnreadableImageError, OSError) as error:
            return image.name, getattr(error, "strerror", None) or str(error)
        with isolated(self.seed, "image", epoch, image.name):
            return self.transform(picture), self.labels[number]


def _collate(samples: list[tuple[Any, Any]]) -> Batch:
    readable = [sample for sample in samples if not isinstance(sample[0], str)]
    return Batch(
        images=torch.stack([image for image, _ in readable]) if readable else torch.empty(0, 3, 0, 0),
        labels=torch.tensor([label for _, label in readable], dtype=torch.int64),
        unreadable=tuple(sample for sample in samples if isinstance(sample[0], str)),
    )
