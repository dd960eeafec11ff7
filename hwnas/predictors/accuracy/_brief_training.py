"""A training of a few epochs on images in memory, an epoch at a time, so that it may be ended early.

An epoch of warm-up, a cosine down to 0 over the epochs it was begun for; mirrored and shifted images.
"""

from __future__ import annotations

import math

import torch

from hwnas.data.pixels import Pixels
from hwnas.data.randomness import isolated
from hwnas.nn import build
from hwnas.space.arch import ArchSpec
from hwnas.train.optim import ShortTraining

__all__ = ["BriefTraining"]


class BriefTraining:
    """A network that has had `done` of its epochs. All randomness follows from the seed."""

    def __init__(
        self, arch: ArchSpec, train: Pixels, test: Pixels, *, epochs: int, batch_size: int, seed: int
    ) -> None:
        """`arch` must fit the images: resolution and classes."""
        self.done = 0
        self._train, self._test, self._seed = train, test, seed
        self._batch_size = min(batch_size, len(train))
        steps = len(train) // self._batch_size
        with isolated(seed, "weights"):
            network = build(arch)
        self._network = network.to(train.labels.device).to(memory_format=torch.channels_last)
        self._training = ShortTraining(
            self._network,
            batch_size=self._batch_size,
            share_of_peak=lambda step: _share_of_peak(step, steps, epochs),
        )

    def epoch(self) -> float:
        """Trains one more epoch; the top-1 accuracy on the test images after it, in percent."""
        self.done += 1
        self._network.train()
        for images, labels in self._train.training_batches(
            self._batch_size, seed=self._seed, epoch=self.done
        ):
            self._training.update(images, labels)
        return self._top1_percent()

    @torch.inference_mode()
    def _top1_percent(self) -> float:
        self._network.eval()
        right = sum(
            int((self._network(images).argmax(1) == labels).sum())
            for images, labels in self._test.evaluation_batches(500)
        )
        return 100 * right / len(self._test)


def _share_of_peak(step: int, steps: int, epochs: int) -> float:
    """The learning rate over its peak: an epoch of linear warm-up, then a cosine down to 0."""
    if step < steps:
        return (step + 1) / steps
    return 0.5 * (1 + math.cos(math.pi * (step - steps) / max(1, steps * (epochs - 1))))
