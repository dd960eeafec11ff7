"""How accurate a network is on a split's images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.data.images import Images
from hwnas.data.loader import Batches, evaluation_batches, worker_count
from hwnas.errors import FileFormatError
from hwnas.train.checkpoint import Checkpoint, trained_network

Each = Callable[[torch.Tensor, torch.Tensor], None]

__all__ = ["Evaluation", "evaluate", "evaluate_checkpoint"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy over a split."""

    top1_percent: float
    top5_percent: float
    """Among the five highest logits; with five classes or fewer that is always 100."""
    loss: float
    """Mean cross-entropy, not finite when the network's logits are not."""
    images: int
    """How many were classified."""
    seconds: float
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of the images that could not be decoded and were left out."""


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Batches,
    *,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
    each: Each | None = None,
) -> Evaluation:
    """The accuracy of `network` in eval mode; its mode is put back.

    `each` receives the logits (B, classes) and the labels (B,) of every batch, in the order of the images.

    Raises FileFormatError when not one image can be decoded.
    """
    was_training = network.training
    network.eval()
    start = clock()
    totals = torch.zeros(3, dtype=torch.float64, device=device)  # right, right within five, loss
    images = 0
    unreadable: list[tuple[str, str]] = []
    for batch in batches.epoch(0):
        unreadable += batch.unreadable
        if not len(batch.labels):
            continue
        pixels = batch.images.to(device, non_blocking=True, memory_format=torch.channels_last)
        labels = batch.labels.to(device, non_blocking=True)
        logits = network(pixels).float()
        if each is not None:
            each(logits, labels)
        ranked = logits.topk(min(5, logits.shape[1])).indices  # (B, 5)
        right = ranked == labels[:, None]
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        totals += torch.stack([right[:, 0].sum(), right.sum(), loss]).double()
        images += len(labels)
    network.train(was_training)
    if not images:
        raise FileFormatError(
            f"none of the {len(unreadable)} images could be decoded, '{unreadable[0][0]}' first"
        )
    top1, top5, loss_sum = (totals / images).tolist()
    return Evaluation(100 * top1, 100 * top5, loss_sum, images, clock() - start, tuple(unreadable))


def evaluate_checkpoint(
    checkpoint: Checkpoint, images: Images, *, device: str = "cpu", each: Each | None = None
) -> Evaluation:
    """The accuracy of a trained network on the val (else test) images; `each` as in `evaluate`.

    Raises UsageError when there are images of classes that the network doesn't know.
    """
    batches = evaluation_batches(
        images,
        images.split(images.evaluation_split()),
        checkpoint.classes_names,
        checkpoint.recipe.augmentation,
        batch_size=checkpoint.recipe.batch_size,
        seed=checkpoint.recipe.seed,
        size=checkpoint.arch.resolution,
        workers=worker_count(checkpoint.recipe.workers),
        pin_memory=device != "cpu",
    )
    network = trained_network(checkpoint).to(device).to(memory_format=torch.channels_last)
    return evaluate(network, batches, device=device, each=each)
