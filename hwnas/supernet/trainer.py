"""Training a supernet: the sandwich rule as a subclass of `hwnas.train.trainer.Trainer`.

Folder, checkpoints, optimiser, resuming and several processes are those of `hwnas.train`. The images are
decoded once and kept in memory; each process has all of them, and its part of each batch.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.data.images import Images
from hwnas.data.pixels import Pixels
from hwnas.data.randomness import derived_seed, deterministic
from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.space import ArchSpec, SearchSpace
from hwnas.supernet.checkpoint import KIND, Checkpoint, EpochRecord
from hwnas.supernet.evaluator import SubnetEvaluator
from hwnas.supernet.images import (
    IMAGES,
    EvaluationImages,
    fitting,
    resized,
    selected,
    split_images,
    write_evaluation_images,
)
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.settings import Settings
from hwnas.supernet.weights import SharedWeights, SubnetCache
from hwnas.train.callbacks import Callback
from hwnas.train.distributed import joined
from hwnas.train.folder import described_data, prepared_folder
from hwnas.train.trainer import Context, Skipped, Trainer

__all__ = ["SubnetBatch", "SubnetBatches", "SupernetResult", "SupernetTrainer", "train"]


class SubnetBatch(NamedTuple):
    """The images of one update, and the subnets that it trains."""

    images: Tensor
    """(B, 3, S, S), normalised."""
    labels: Tensor
    """(B,)"""
    subnets: tuple[ArchSpec, ...]
    """The first learns the labels, the others its outputs as well."""
    unreadable: Skipped = ()


class SubnetBatches:
    """The batches of each epoch with their subnets; both follow from the seed and the epoch's number.

    Of several processes, each has its part of the images and the same subnets.
    """

    def __init__(
        self, pixels: Pixels, sandwich: Sandwich, settings: Settings, share: tuple[int, int] = (0, 1)
    ) -> None:
        """`share` is (rank, processes). Raises UsageError when a process has fewer than 2 images a batch."""
        self._pixels, self._sandwich, self._settings, self._share = pixels, sandwich, settings, share
        size = min(settings.batch_size, len(pixels))
        if size // share[1] < 2:
            raise UsageError(f"each of {share[1]} processes needs 2 images a batch, got {size} in all")
        self._count = len(pixels) // size

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._count

    def epoch(self, number: int) -> Iterator[SubnetBatch]:
        """The batches of epoch `number`, 1 for the first."""
        settings = self._settings
        rng = random.Random(derived_seed(settings.seed, "networks", number))
        batches = self._pixels.training_batches(
            settings.batch_size, seed=settings.seed, epoch=number, share=self._share
        )
        for update, (images, labels) in enumerate(batches, start=(number - 1) * len(self)):
            yield SubnetBatch(images, labels, self._sandwich.networks(update, rng))


class SupernetTrainer(Trainer[SharedWeights, SubnetBatch, Checkpoint, EpochRecord]):
    """Each update trains several subnets on one batch, with in-place distillation (Yu and Huang, Universally
    Slimmable Networks, ICCV 2019): their gradients are added up, and clipped together."""

    gpu_sync_every = 50
    fused_optimizer = True  # the shared tensors are large

    def __init__(
        self,
        weights: SharedWeights,
        sandwich: Sandwich,
        settings: Settings,
        steps: int,
        evaluation: EvaluationImages,
        context: Context,
    ) -> None:
        """`weights` on the context's device; an epoch has `steps` updates."""
        super().__init__(weights, settings, steps, context)
        self.sandwich, self.settings, self.evaluation = sandwich, settings, evaluation
        self._subnets = SubnetCache(weights, recurring=sandwich.recurring, compile=settings.compile)

    def usable(self, batch: SubnetBatch) -> int:
        """All images."""
        return len(batch.labels)

    def backward(self, batch: SubnetBatch) -> Tensor:
        """Adds the gradients of all subnets; the loss of the first one on the labels, detached."""
        first = torch.zeros((), device=self.device)
        outputs: Tensor | None = None  # (B, classes), of the first subnet
        for arch in batch.subnets:
            network, forward = self._subnets.network(arch)
            with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
                logits = forward(resized(batch.images, arch.resolution)).float()
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.settings.label_smoothing)
            if outputs is None:
                outputs, first = logits.detach().softmax(dim=1), loss.detach()
            else:
                share = self.settings.teacher_share
                loss = (1 - share) * loss + share * F.cross_entropy(logits, outputs)
            self.scaler.scale(loss).backward()
            self.network.add_gradients(network, arch)
            network.zero_grad(set_to_none=True)
        return first

    def none_usable(self, unreadable: Skipped) -> str:
        """All images were decoded before the first epoch, so an epoch without one has none at all."""
        return "the supernet has no images to train on"

    def evaluate(self, number: int, loss: float, lr: float, began: float) -> tuple[EpochRecord, Skipped]:
        """Top-1 of the largest and the smallest subnet of each attention type on the held-back images."""
        evaluator = SubnetEvaluator(
            self.evaluated, self.evaluation, self.sandwich, precision=self.settings.precision
        )
        largest, smallest = (
            {
                type_: evaluator.top1_percent(arch)
                for type_, arch in zip(self.sandwich.types, archs, strict=True)
            }
            for archs in (self.sandwich.largest, self.sandwich.smallest)
        )
        return EpochRecord(number, loss, largest, smallest, lr, self.clock() - began), ()

    def score(self, record: EpochRecord) -> float:
        """The number of the epoch: the weights to use are always the last ones."""
        return record.epoch


# --- a training, from a data folder to a supernet ---------------------------------------------


@dataclass(frozen=True, slots=True)
class SupernetResult:
    """A finished training."""

    out: Path
    space: SearchSpace
    """As trained."""
    parameters: int
    """Number of shared parameters, of all subnets together."""
    history: tuple[EpochRecord, ...]


def train(
    space: SearchSpace,
    data: Path | Images,
    settings: Settings,
    out: Path,
    *,
    limit: int | None = None,
    resume: bool = False,
    device: str = "cpu",
    callback: Callback | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> SupernetResult:
    """Train shared weights for the networks of `space` on the training images of `data`, into `out`.

    The space gets the data's classes; its images are decoded once, at its largest resolution, and kept in
    memory. `limit` uses that many of them, equally many of each class. With `resume`, goes on after the
    last finished epoch of `out`, or starts when there is none. Where torchrun started several processes,
    each calls this alike.

    Raises UsageError for data, folders and options that don't fit (among them a resume that requests
    another training than `out` holds), TrainingFailed when the loss is not finite, FileFormatError when no
    checkpoint of `out` is intact.
    """
    with joined(device, settings.batch_size) as group:
        context = Context.of(device, group, callback, clock)
        images = data if isinstance(data, Images) else open_images(data)
        if images.remark:
            context.callback.note(images.remark)
        classes = images.classes()
        settings = fitting(settings, images, limit, context.callback)
        space = dataclasses.replace(space, classes=len(classes))
        chosen = selected(images, limit, settings.seed)
        start = Checkpoint(
            space=space,
            recipe=settings,
            classes_names=classes,
            state_dict={},
            history=(),
            name=space.name,
            data={**described_data(images, chosen, ()), "limit": limit},
        )
        before = prepared_folder(out, start, KIND, resume=resume, callback=context.callback, group=group)
        pixels, evaluation = split_images(
            images,
            side=max(space.resolution),
            limit=limit,
            held_back=settings.held_back,
            calibration=settings.calibration_images,
            seed=settings.seed,
        )
        if group.is_first and not (out / IMAGES).exists():
            write_evaluation_images(evaluation, out)
        sandwich = Sandwich(space, settings.random_networks, settings.max_macs)
        batches = SubnetBatches(pixels.to(device), sandwich, settings, (group.rank, group.size))
        weights = SharedWeights.fresh(space, seed=settings.seed, branch_weight=settings.branch_weight)
        trainer = SupernetTrainer(weights.to(device), sandwich, settings, len(batches), evaluation, context)
        if before is not None:
            trainer.restore(before)
        with deterministic(device):
            history = trainer.fit(start, () if before is None else before.history, batches, KIND, out)
        count = sum(tensor.numel() for tensor in weights.parameters())
        return SupernetResult(out, space, count, history)
