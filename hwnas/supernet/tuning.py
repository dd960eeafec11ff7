"""Tuning: a few updates of a network alone, from its slices of the shared weights, before it is evaluated.

As they are, shared weights answer for all networks much alike. How far a network gets from them in some
hundred updates of its own says far more of what it comes to when trained alone; as many updates from fresh
weights say little: experiments/supernet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from hwnas.data.images import Images
from hwnas.data.pixels import Pixels
from hwnas.errors import UsageError
from hwnas.supernet.checkpoint import Checkpoint
from hwnas.supernet.images import resized, selected, training_images
from hwnas.train.folder import described_data
from hwnas.train.optim import ShortTraining

__all__ = ["UPDATES", "Tuning"]

UPDATES = 140
BATCH = 64
"""Images an update."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Images that the supernet was trained on, and how many updates each network learns from them.

    All networks see the same batches in the same order, so that what is left between them is theirs.
    """

    images: Pixels
    updates: int = UPDATES

    @classmethod
    def of(cls, saved: Checkpoint, images: Images, *, updates: int = UPDATES) -> Tuning:
        """On the data set that the supernet was trained on, without what it holds back.

        Raises UsageError when that is another one, or for less than one update.
        """
        if updates < 1:
            raise UsageError(f"a network is tuned for at least 1 update, got {updates}")
        limit, settings = saved.data.get("limit"), saved.recipe
        every = selected(images, limit, settings.seed)
        if described_data(images, every, ())["digest"] != saved.data.get("digest"):
            raise UsageError(
                "the images must be those that the supernet was trained on: got "
                f"{images.path}; it was {saved.data.get('name')}"
            )
        pixels = training_images(
            images,
            side=max(saved.space.resolution),
            limit=limit,
            held_back=settings.held_back,
            seed=settings.seed,
            most=updates * BATCH,
        )
        return cls(pixels, updates)

    def to(self, device: str) -> Tuning:
        """The same on another device."""
        return replace(self, images=self.images.to(device))

    def __call__(self, network: nn.Module, side: int) -> torch.Tensor:
        """Train the network, for images of that side, in float32; leaves it in eval mode.

        What it lost on each image of the last third of its batches, before it learnt from them: (N,) cross
        entropy. BatchNorm's statistics are those of the last batches, as after any training: of many more
        images than a recalibration has, whose noise would be as large as what networks differ by.
        """
        size, count = min(BATCH, len(self.images)), self.updates
        warmup = max(1, count // 14)
        training = ShortTraining(
            network,
            batch_size=size,
            share_of_peak=lambda update: min(1.0, (update + 1) / warmup) * (1 - update / count),
        )
        losses = []
        for number, (images, labels) in enumerate(itertools.islice(self._batches(size), count), start=1):
            logits = training.update(resized(images, side), labels)
            if 3 * number > 2 * count:
                losses.append(F.cross_entropy(logits, labels, reduction="none"))
        network.eval()
        return torch.cat(losses)

    def _batches(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for epoch in itertools.count(1):
            yield from self.images.training_batches(size, seed=0, epoch=epoch)
