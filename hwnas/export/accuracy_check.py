"""What images tell of an exported network: how large activations get, and what exporting cost in accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hwnas.data.images import Image, Images, subset
from hwnas.data.loader import evaluation_batches, worker_count
from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.train.checkpoint import Checkpoint

if TYPE_CHECKING:
    from hwnas.export.deploy import Array
    from hwnas.export.formats import Run

__all__ = ["CALIBRATION_IMAGES", "Comparison", "calibration_batches", "compare"]

CALIBRATION_IMAGES = 128


@dataclass(frozen=True, slots=True)
class Comparison:
    """A network before and after it was exported, on the same labelled images."""

    images: int
    split: str
    top1_before_percent: float
    """Of the network in torch, fp32."""
    top1_after_percent: float
    """Of the exported file, in its runtime."""
    agreement_percent: float
    """Images for which both name the same class."""


def calibration_batches(trained: Checkpoint, folder: Path, *, batch: int) -> list[Array]:
    """Up to CALIBRATION_IMAGES images, equally many of each class, as batches of exactly `batch`.

    From the folder's train images, else those of val or test; prepared as for evaluation. Raises
    UsageError when there are fewer than one batch of them.
    """
    images = open_images(folder)
    split = "train" if "train" in images.splits else images.evaluation_split()
    available = images.split(split)
    classes = len({image.class_name for image in available})
    chosen = subset(available, max(CALIBRATION_IMAGES, classes, batch), trained.recipe.seed)
    pixels = np.concatenate([part for part, _ in _batches(trained, images, chosen)])
    batches = [pixels[start : start + batch] for start in range(0, len(pixels) - batch + 1, batch)]
    if not batches:
        raise UsageError(f"{folder}: calibration needs {batch} images or more, got {len(pixels)}")
    return batches


def compare(trained: Checkpoint, network: torch.nn.Module, run: Run, folder: Path) -> Comparison:
    """The accuracy on the folder's val (else test) images of `network` and of its export `run`."""
    images = open_images(folder)
    split = images.evaluation_split()
    counts = np.zeros(3, np.int64)  # right before, right after, same
    total = 0
    for pixels, labels in _batches(trained, images, images.split(split)):
        with torch.no_grad():
            before = network(torch.from_numpy(pixels)).numpy().argmax(axis=1)
        after = run(pixels).argmax(axis=1)
        counts += [(before == labels).sum(), (after == labels).sum(), (before == after).sum()]
        total += len(labels)
    before_percent, after_percent, same_percent = (float(100 * count / total) for count in counts)
    return Comparison(total, split, before_percent, after_percent, same_percent)


def _batches(trained: Checkpoint, images: Images, chosen: tuple[Image, ...]) -> Iterator[tuple[Array, Any]]:
    """(pixels, labels); what cannot be decoded is left out. Raises UsageError when nothing is left."""
    batches = evaluation_batches(
        images,
        chosen,
        trained.classes_names,
        trained.recipe.augmentation,
        batch_size=trained.recipe.batch_size,
        seed=trained.recipe.seed,
        size=trained.arch.resolution,
        workers=worker_count(trained.recipe.workers),
    )
    found = False
    for batch in batches.epoch(0):
        if len(batch.labels):
            found = True
            yield batch.images.numpy(), batch.labels.numpy()
    if not found:
        raise UsageError(f"{images.path}: none of the {len(chosen)} images could be decoded")
