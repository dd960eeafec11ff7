"""How alike the heads of each attention are, in what they look at and in what they give.

The analysis that SHViT (section 2.2, figure 3) and EfficientViT (section 2.2, figure 4) start from: the
cosine between the attention maps of a layer's heads, over 128 images. SHViT takes the mean over a head and
all others, EfficientViT the mean over heads of the most similar other one. Where heads share one map, as
in UniForm, only what they give can differ, which the papers do not measure: here by linear CKA.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hwnas.explain.attention_maps import SeenAttention, look
from hwnas.nn.network import Network

__all__ = ["HeadSimilarity", "linear_cka", "map_cosine", "mean_of_maxima", "mean_of_others", "similarities"]

_ROUNDING = 1e-12
"""A channel whose variance is this part of its mean square, or less, gives the same everywhere."""


@dataclass(frozen=True, slots=True)
class HeadSimilarity:
    """The heads of one attention, compared over some images. 1 is alike."""

    place: str
    kind: str
    heads: int
    images: int
    maps: Tensor | None
    """(heads, heads): cosine of the attention maps, the mean over images and windows; None where all heads
    share one map."""
    outputs: Tensor
    """(heads, heads): linear CKA of what the heads give, over all positions of all images."""


def similarities(network: Network, batches: Iterable[Tensor]) -> tuple[HeadSimilarity, ...]:
    """One for each attention of the network with two heads or more, over all images of `batches`.

    Each batch is (B, 3, R, R). Raises UsageError for images of another size.
    """
    running: dict[str, _Running] = {}
    for images in batches:
        for seen in look(network, images)[1]:
            if seen.heads > 1:
                running.setdefault(seen.place, _Running(seen)).add(seen)
    return tuple(own.similarity() for own in running.values())


def map_cosine(seen: SeenAttention) -> Tensor:
    """(groups, matrices, matrices): the cosine of flattened maps, for each image or window of one.

    In element-wise attention a channel's map is a matrix: (B, C, C).
    """
    if len(seen.maps) == 1 and seen.maps[0].ndim == 4:
        flat = seen.maps[0].flatten(2)  # (B, C, H * W)
    else:
        flat = torch.stack([own.flatten(1) for own in seen.maps], dim=1)  # (windows * B, matrices, N * N)
    unit = torch.nn.functional.normalize(flat.double(), dim=2)
    return unit @ unit.transpose(1, 2)


def linear_cka(covariance: Tensor, channels: int) -> Tensor:
    """(heads, heads): linear CKA of heads, from the covariance of all their channels, (heads * channels,)
    squared.

    Kornblith et al., ICML 2019, section 3: |X'Y|^2 / (|X'X| |Y'Y|) for centred X and Y, Frobenius norms.
    1 for outputs that a rotation and a factor turn into each other, 0 for uncorrelated ones. A head that
    gives the same everywhere is like no other.
    """
    heads = len(covariance) // channels
    blocks = covariance.reshape(heads, channels, heads, channels)
    squares = blocks.square().sum(dim=(1, 3))  # (heads, heads)
    own = squares.diagonal().sqrt()
    scale = own[:, None] * own
    alike = torch.where(scale > 0, squares / scale.clamp(min=torch.finfo(scale.dtype).tiny), 0.0)
    return alike.fill_diagonal_(1.0)


def mean_of_others(matrix: Tensor) -> float:
    """The mean similarity of a head and another (SHViT's figure 3)."""
    heads = len(matrix)
    return float((matrix.sum() - matrix.diagonal().sum()) / (heads * (heads - 1)))


def mean_of_maxima(matrix: Tensor) -> float:
    """The mean over heads of the similarity to the most similar other one (EfficientViT's figure 4)."""
    others = matrix.clone().fill_diagonal_(-torch.inf)
    return float(others.max(dim=1).values.mean())


class _Running:
    """The sums that the similarities of one attention follow from, batch by batch."""

    def __init__(self, first: SeenAttention) -> None:
        self.seen = first
        self.channels = first.outputs.shape[2]
        width = first.heads * self.channels
        self.images = self.groups = self.positions = 0
        self.cosine: Tensor | None = None
        self.total = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, seen: SeenAttention) -> None:
        flat = seen.outputs.flatten(3).flatten(1, 2).double()  # (B, heads * channels, positions)
        rows = flat.transpose(1, 2).reshape(-1, flat.shape[1])
        self.images += len(flat)
        self.positions += len(rows)
        self.total += rows.sum(dim=0)
        self.products += rows.T @ rows
        if len(seen.maps) > 1 or seen.maps[0].ndim == 4:
            cosine = map_cosine(seen)
            self.groups += len(cosine)
            self.cosine = cosine.sum(dim=0) if self.cosine is None else self.cosine + cosine.sum(dim=0)

    def similarity(self) -> HeadSimilarity:
        mean = self.total / self.positions
        covariance = self.products / self.positions - mean[:, None] * mean
        still = covariance.diagonal() <= _ROUNDING * self.products.diagonal() / self.positions
        covariance[still] = covariance[:, still] = 0.0
        return HeadSimilarity(
            place=self.seen.place,
            kind=self.seen.kind,
            heads=self.seen.heads,
            images=self.images,
            maps=None if self.cosine is None else self.cosine / self.groups,
            outputs=linear_cka(covariance, self.channels),
        )
