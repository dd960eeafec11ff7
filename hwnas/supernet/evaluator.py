"""SubnetEvaluator: the accuracy of subnets with the shared weights, a few seconds each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from hwnas.data.sources import open_images
from hwnas.errors import UsageError
from hwnas.space import ArchSpec
from hwnas.supernet.checkpoint import load
from hwnas.supernet.images import EvaluationImages, read_evaluation_images, resized
from hwnas.supernet.sandwich import Sandwich
from hwnas.supernet.tuning import UPDATES, Tuning
from hwnas.supernet.weights import SharedWeights, empty_network
from hwnas.train.init_weights import Start
from hwnas.train.optim import matrix_precision

__all__ = [
    "EvaluatedSubnet",
    "SubnetEvaluator",
    "find_start",
    "recalibrate",
]


# --- BatchNorm statistics of one subnet: shared ones would fit no subnet ----------------------


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor]) -> nn.Module:
    """Sets every running mean and variance to their average over `batches`; leaves the network in eval mode.

    `batches` are images, (B, 3, R, R) each, all of one size B: every batch counts alike. Each batch is
    normalised with its own statistics on the way, as in training (Yu and Huang, Universally Slimmable
    Networks, ICCV 2019, section 3.2).
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    try:
        for images in batches:
            network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return network.eval()


# --- evaluation -------------------------------------------------------------------------------


BATCH = 128
"""Images a batch; those that BatchNorm is recalibrated on come in whole batches only."""


@dataclass(frozen=True, slots=True)
class EvaluatedSubnet:
    """What a network came to with the shared weights."""

    arch: ArchSpec
    """As evaluated: adapted to the supernet's images and classes."""
    right: int
    """Held-back images classified right."""
    images: int
    loss: float
    """Mean cross entropy on them, in nats: finer than the share that is right, where few networks differ
    by more than that share's deviation. Of a network that was tuned, on its last batches as well, each
    before it learnt from it."""
    loss_std: float
    """Standard deviation of `loss` when it is compared with another network's on the same images: by where
    the largest and the smallest network differ, image by image. What is hard for both says nothing. The
    same for all subnets: a deviation estimated from some of them would make a search prefer similar ones."""
    seconds: float

    @property
    def top1_percent(self) -> float:
        """On the held-back images."""
        return 100 * self.right / self.images

    @property
    def binomial_std_percent(self) -> float:
        """Standard deviation of `top1_percent` by the number of images alone. By Laplace's rule, so that
        it is not 0 when all or none are right."""
        share = (self.right + 1) / (self.images + 2)
        return 100 * math.sqrt(share * (1 - share) / self.images)


class SubnetEvaluator:
    """Shared weights, which must not change meanwhile, with the images that subnets are evaluated on."""

    def __init__(
        self,
        weights: SharedWeights,
        images: EvaluationImages,
        sandwich: Sandwich,
        *,
        precision: str = "mixed",
        tuning: Tuning | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """With a `tuning`, networks learn alone from their slices first: a minute each instead of seconds."""
        self.weights = weights
        self.classes = images.held_back.classes
        self._sandwich = sandwich
        self._device = weights.device.type
        self._cast = matrix_precision(precision, self._device)
        self._clock = clock
        self._tuning = None if tuning is None else tuning.to(self._device)
        on_device = images.to(self._device)
        size = min(BATCH, len(on_device.calibration))
        self._calibration = [
            some for some, _ in on_device.calibration.evaluation_batches(size) if len(some) == size
        ]  # normalised once, for all networks
        self._held_back = list(on_device.held_back.evaluation_batches(BATCH))
        self._images = len(on_device.held_back)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: str = "cpu",
        data: Path | str | None = None,
        updates: int | None = None,
    ) -> SubnetEvaluator:
        """The evaluator of a trained supernet: its folder, or one checkpoint in it.

        With `data`, the images that it was trained on, each network first has so many `updates` alone; None
        is the usual number.

        Raises UsageError when there is no supernet, or when the data are others; FileFormatError when a
        file is damaged or foreign.
        """
        path = Path(path)
        saved = load(path)
        tuning = None
        if data is not None:
            count = UPDATES if updates is None else updates
            tuning = Tuning.of(saved, open_images(Path(data)), updates=count)
        return cls(
            SharedWeights(saved.state_dict).to(device),
            read_evaluation_images(path if path.is_dir() else path.parent),
            Sandwich(saved.space, saved.recipe.random_networks, saved.recipe.max_macs),
            precision=saved.recipe.precision,
            tuning=tuning,
        )

    @property
    def updates(self) -> int:
        """Number of updates that a subnet gets on its own before it is evaluated; 0 without tuning."""
        return 0 if self._tuning is None else self._tuning.updates

    def adapted(self, arch: ArchSpec) -> ArchSpec:
        """The network as it is evaluated: with the supernet's classes, and with its image size and its stem
        where the space has no such ones.

        Raises UsageError for a network that cannot be cut from the shared weights.
        """
        adapted = self._adapted(arch)
        self.weights.require(adapted)
        return adapted

    def supports(self, arch: ArchSpec) -> bool:
        """Whether the network, adapted, can be cut from the shared weights."""
        try:
            return not self.weights.lacks(self._adapted(arch))
        except UsageError:  # parts that no search space has
            return False

    def _adapted(self, arch: ArchSpec) -> ArchSpec:
        space = self._sandwich.space
        resolutions, strides = space.resolution, space.stem_stride
        return arch.adapted(
            resolution=arch.resolution if arch.resolution in resolutions else max(resolutions),
            stem_stride=arch.stem.stride if arch.stem.stride in strides else min(strides),
            classes=len(self.classes),
        )

    def network(self, arch: ArchSpec) -> nn.Module:
        """The network with its slices of the shared weights, BatchNorm recalibrated, in eval mode.

        `arch` as `adapted` gives it.
        """
        network = empty_network(arch, self.weights.device)
        self.weights.load_into(network, arch)
        with self._autocast():
            return recalibrate(network, (resized(some, arch.resolution) for some in self._calibration))

    def top1_percent(self, arch: ArchSpec) -> float:
        """On the held-back images: the accuracy that `evaluate` gives, without the deviation of its loss.

        Raises UsageError as `adapted`.
        """
        right, _ = self._answers(self.adapted(arch))
        return 100 * int(right) / self._images

    def evaluate(self, archs: Iterable[ArchSpec]) -> list[EvaluatedSubnet]:
        """What each network comes to; the images are prepared once for all of them.

        A GPU is never waited for within a network. Raises UsageError as `adapted`.
        """
        return [self._evaluate(self.adapted(arch)) for arch in archs]

    def _evaluate(self, arch: ArchSpec) -> EvaluatedSubnet:
        std = self._loss_std  # of all networks alike, so not in the seconds of the first
        start = self._clock()
        right, losses = self._answers(arch)
        loss, seconds = float(losses.mean()), self._clock() - start
        return EvaluatedSubnet(arch, int(right), self._images, loss, std, seconds)

    @cached_property
    def _loss_std(self) -> float:
        """Of two networks' difference each one has half of the variance."""
        extremes = (self._sandwich.smallest[0], self._sandwich.largest[0])
        smallest, largest = (self._answers(arch)[1] for arch in extremes)
        return float((smallest - largest).std(correction=0)) / math.sqrt(2 * len(smallest))

    def _answers(self, arch: ArchSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """How many held-back images are classified right, and (N,) the cross entropy on each of them; of a
        network that is tuned, on each image of its last batches, too."""
        network = self.network(arch)
        losses = [] if self._tuning is None else [self._tuning(network, arch.resolution)]
        right = torch.zeros((), dtype=torch.int64, device=self.weights.device)
        with torch.inference_mode(), self._autocast():
            for images, labels in self._held_back:
                logits = network(resized(images, arch.resolution)).float()
                right += (logits.argmax(1) == labels).sum()
                losses.append(F.cross_entropy(logits, labels, reduction="none"))
        return right, torch.cat(losses)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device, dtype=self._cast, enabled=self._cast is not None)


# --- a subnet's weights as the start of a training --------------------------------------------


def find_start(path: Path | str, arch: ArchSpec) -> Start:
    """The weights of `arch` in the supernet at `path`, BatchNorm's statistics recalibrated.

    Of another image size, the tables of attention biases are resized where a training takes them; of
    other classes, the classifier is left out.

    Raises UsageError when there is no supernet or `arch` is not in its space, FileFormatError when a
    file is damaged.
    """
    evaluator = SubnetEvaluator.load(path)
    network = evaluator.network(evaluator.adapted(arch))
    return Start(f"supernet {path}", dict(network.state_dict()))
