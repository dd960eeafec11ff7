"""How good a detector or a segmentation network is on photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from hwnas.dense.data import DenseBatches
from hwnas.dense.networks import DenseNetwork
from hwnas.dense.scores import scores_of
from hwnas.errors import FileFormatError

__all__ = ["DenseEvaluation", "evaluate"]


@dataclass(frozen=True, slots=True)
class DenseEvaluation:
    """Scores over a set of photos."""

    scores: Mapping[str, float]
    """Percent by name, as `hwnas.dense.scores` calls them."""
    images: int
    """How many were looked at."""
    seconds: float
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of the images that were left out."""


@torch.inference_mode()
def evaluate(
    network: DenseNetwork,
    batches: DenseBatches,
    task: str,
    classes: int,
    *,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> DenseEvaluation:
    """The scores of `network` in eval mode; its mode is put back.

    Raises FileFormatError when not one image can be used.
    """
    was_training = network.training
    network.eval()
    start = clock()
    scores = scores_of(task, classes)
    images = 0
    unreadable: list[tuple[str, str]] = []
    for batch in batches.epoch(0):
        unreadable += batch.unreadable
        if not batch.images:
            continue
        predictions = network([image.to(device, non_blocking=True) for image in batch.images])
        for target, predicted in zip(batch.targets, predictions, strict=True):
            photo = batches.photos[int(target["number"])]
            scores.add(photo, {name: value.cpu() for name, value in predicted.items()})
        images += len(batch.images)
    network.train(was_training)
    if not images:
        raise FileFormatError(
            f"none of the {len(unreadable)} images can be used, '{unreadable[0][0]}' first: "
            f"{unreadable[0][1]}"
        )
    return DenseEvaluation(scores.percent(), images, clock() - start, tuple(unreadable))
