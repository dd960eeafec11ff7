"""ArchSpec -> the numbers that `published` is linear in, and what is believed of each beforehand.

Everything is in units of ln(top-1 error): 0.04 is about one point of ImageNet top-1 at 74 %. A belief
with mean 0 rewards nothing: it only makes a prediction less sure the farther a network is from those
that were published. Squares are there for that: they stand for what a straight line may get wrong.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from hwnas.space.arch import ArchSpec, Attention, CascadedGroup, Reuse, SingleHead
from hwnas.space.op_sums import SpaceIndex
from hwnas.space.ops import OpSpec, lower
from hwnas.space.search_space import SearchSpace, StageSpace
from hwnas.space.vectors import Moves
from hwnas.types import Floats, Ints

__all__ = ["FEATURES", "Feature", "SpaceDescriber", "describe"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of a network, and the belief about its effect on ln(error)."""

    name: str
    mean: float
    std: float
    why: str


FEATURES: tuple[Feature, ...] = (
    Feature("one", 0.0, 2.0, "ln(error / 27 %) of a network of 250M MACs and 7M parameters"),
    Feature("macs", 0.0, 1.0, "ln(MACs / 250M): compute helps, how much is left to the data"),
    Feature("params", 0.0, 0.3, "ln(parameters without the classifier / 7M)"),
    # Which attention, as a share of the blocks.
    Feature("reuse", 0.0, 0.035, "families differ by about a point at one size"),
    Feature("single-head", 0.0, 0.035, "as above"),
    Feature("cascaded-group", 0.0, 0.035, "as above"),
    Feature("element-wise", 0.05, 0.10, "no ImageNet row: taken to mix tokens as little as no attention"),
    Feature("none", 0.05, 0.05, "SHViT, table 6: without attention 1.1 points less"),
    Feature("reuse x macs", 0.0, 0.02, "families also grow differently"),
    Feature("single-head x macs", 0.0, 0.02, "as above"),
    Feature("cascaded-group x macs", 0.0, 0.02, "as above"),
    Feature("mixture", 0.0, 0.02, "nobody published a network of several attentions; 0 for one type"),
    # What an attention is made of.
    Feature("kernels", 0.0, 0.03, "ln of the mean kernel of the heads, of 4"),
    Feature("heads", 0.0, 0.03, "ln of the number of heads, of 3.5"),
    Feature("partial", 0.0, 0.05, "ln of the attending share of a single head's channels, of 1/4.67"),
    Feature("partial squared", 0.0, 0.05, "SHViT, table 6: there is a best share"),
    # How the blocks are built.
    Feature("dw-attention-ffn", 0.0, 0.03, "share of blocks with SHViT's layout"),
    Feature(
        "ffn ratio",
        0.05,
        0.05,
        "log2(ratio / 2); EfficientViT, table 6: with 4, 1.5 points less at one speed",
    ),
    Feature("resolution", 0.0, 0.15, "ln(side / 224)"),
    Feature("foreign", 0.0, 0.20, "parts of another design (EleViT's stem, downsampling, blocks, head)"),
    Feature("stem stride", 0.0, 0.15, "log2(16 / stride)"),
    # Its shape: how the size is spread.
    Feature("macs 1:2", 0.0, 0.05, "ln of the first stage's MACs over the second's"),
    Feature("macs 3:2", 0.0, 0.05, "ln of the last stage's MACs over those of the one before"),
    Feature("width 2:1", 0.0, 0.05, "ln of the widths' ratio, of 1.7"),
    Feature("width 3:2", 0.0, 0.05, "ln of the widths' ratio, of 1.35"),
    Feature("depth", 0.0, 0.05, "ln of the number of FFNs in blocks, of 12"),
    Feature("macs squared", 0.0, 0.015, "size beyond the published range"),
    Feature("balance squared", 0.0, 0.10, "parameters without compute, or compute without parameters"),
    Feature("macs 1:2 squared", 0.0, 0.05, "a first stage out of proportion"),
    Feature("macs 3:2 squared", 0.0, 0.05, "a last stage out of proportion"),
    Feature("width 2:1 squared", 0.0, 0.15, "widths that jump, or fall"),
    Feature("width 3:2 squared", 0.0, 0.15, "as above"),
    Feature("depth squared", 0.02, 0.06, "far from the published depths is taken to be worse"),
)


def describe(arch: ArchSpec) -> Floats:
    """The numbers of one network, in the order of FEATURES.

    The classifier is left out of the parameters: an estimate is for ImageNet-1K whatever the number
    of classes the architecture is set up for.
    """
    stages = arch.stages
    macs, params, stage_macs = _sizes(arch)
    blocks = np.array(
        [
            _block_numbers(attention, stage.width, stage.layout, stage.ffn_ratio)
            for stage in stages
            for attention in stage.blocks
        ]
    )
    foreign = sum(stage.downsample != "merge" for stage in stages[1:])
    foreign += (arch.stem.kind != "conv") + (arch.head.kind != "linear")
    numbers: Floats = _features(
        _Sums(
            blocks=blocks.sum(axis=0)[None],
            macs=np.array([float(macs)]),
            params=np.array([float(params)]),
            stage_macs=np.array([stage_macs]),
            widths=np.array([[float(stage.width) for stage in stages]]),
            resolution=np.array([float(arch.resolution)]),
            stem_stride=np.array([float(arch.stem.stride)]),
            foreign=float(foreign),
        )
    )[0]
    return numbers


class SpaceDescriber:
    """`describe` of many networks of one space at once."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._moves = Moves(space)
        self._sizes = SpaceIndex(space, lambda op: _size_numbers(op, len(space.stages)))
        self._resolution = np.array(space.resolution, dtype=float)
        self._stem_stride = np.array(space.stem_stride, dtype=float)
        self._widths = [np.array(stage.width, dtype=float) for stage in space.stages]
        self._blocks = [_block_table(stage) for stage in space.stages]

    def describe(self, vectors: Ints) -> Floats:
        """The numbers of networks, shape (n, features), for vectors, shape (n, decisions)."""
        if not len(vectors):
            return np.zeros((0, len(FEATURES)))
        sizes = self._sizes.sums(vectors)
        blocks = np.zeros((len(vectors), BLOCK_NUMBERS))
        for stage, table in zip(self._moves.stages, self._blocks, strict=True):
            # width, depth, ffn ratio, layout: the first four places of a stage
            width, ratio, layout = (vectors[:, stage.part.start + place] for place in (0, 2, 3))
            for block in vectors[:, stage.blocks].T:
                blocks += table[width, ratio, layout, block]
        return _features(
            _Sums(
                blocks=blocks,
                macs=sizes[:, 0],
                params=sizes[:, 1],
                stage_macs=sizes[:, 2:],
                widths=self.widths(vectors),
                resolution=self._resolution[vectors[:, 0]],
                stem_stride=self._stem_stride[vectors[:, 1]],
                foreign=0.0,
            )
        )

    def widths(self, vectors: Ints) -> Floats:
        """The width of each stage, shape (n, stages)."""
        stages = zip(self._widths, self._moves.stages, strict=True)
        return np.stack([widths[vectors[:, stage.width]] for widths, stage in stages], axis=1)


TYPES = ("reuse", "single-head", "cascaded-group", "element-wise", "none")
BLOCK_NUMBERS = 13
"""What `_block_numbers` gives: 1 for the block, one of TYPES, and seven sums."""


def _block_numbers(attention: Attention | None, width: int, layout: str, ffn_ratio: int) -> tuple[float, ...]:
    """What one block adds to the sums over a network's blocks."""
    kernels = heads = partial = foreign = 0.0
    if isinstance(attention, Reuse | CascadedGroup):
        kernels = math.log(sum(attention.kernels) / attention.heads / 4)
        heads = math.log(attention.heads / 3.5)
    elif isinstance(attention, SingleHead):
        partial = math.log(4.67 * attention.channels / width)
    if isinstance(attention, Reuse):
        foreign += attention.variant != "released"
    foreign += layout == "ffn-attention"
    name = "none" if attention is None else attention.type
    return (
        1.0, *(float(name == each) for each in TYPES), kernels, heads, partial,
        float(layout == "dw-attention-ffn"), math.log2(ffn_ratio / 2), foreign,
        2.0 if layout == "sandwich" else 1.0,
    )  # fmt: skip


def _block_table(stage: StageSpace) -> Floats:
    """`_block_numbers` by width, ratio, layout and attention; zeros last, which INACTIVE (-1) finds."""
    shape = (len(stage.width), len(stage.ffn_ratio), len(stage.layout), len(stage.attention) + 1)
    table = np.zeros((*shape, BLOCK_NUMBERS))
    for (i, width), (j, ratio), (k, layout) in itertools.product(
        enumerate(stage.width), enumerate(stage.ffn_ratio), enumerate(stage.layout)
    ):
        for number in stage.allowed(width, layout):
            attention = stage.attention[number].fitted(width)
            table[i, j, k, number] = _block_numbers(attention, width, layout, ratio)
    return table


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the features of networks are computed from."""

    blocks: Floats
    """(n, BLOCK_NUMBERS): sums of `_block_numbers` over the blocks."""
    macs: Floats
    """(n,)"""
    params: Floats
    """(n,), without the classifier."""
    stage_macs: Floats
    """(n, stages): each with what leads into it."""
    widths: Floats
    """(n, stages)"""
    resolution: Floats
    """(n,)"""
    stem_stride: Floats
    """(n,)"""
    foreign: float
    """Parts of another design besides blocks."""


def _features(sums: _Sums) -> Floats:
    """The numbers of networks in the order of FEATURES, shape (n, features)."""
    size, weights = np.log(sums.macs / 250e6), np.log(sums.params / 7e6)
    balance = weights - size + 0.25  # the middle of the published networks

    means = sums.blocks[:, 1:-1] / sums.blocks[:, :1]
    shares = dict(zip(TYPES, means.T, strict=False))
    kernels, heads, partial, layout, ratio, foreign = means.T[len(TYPES) :]
    attending = 1.0 - shares["none"]
    squares = sum(np.square(share) for name, share in shares.items() if name != "none")
    some = attending > 1e-9
    mixture = np.where(some, attending - squares / np.where(some, attending, 1.0), 0.0)
    stages = sums.widths.shape[1]
    foreign = foreign + sums.foreign + 0.5 * abs(stages - 3)

    first, last = _ratios(sums.stage_macs)
    wider_second, wider_last = _ratios(1.0 / sums.widths)
    wider_second, wider_last = wider_second - math.log(1.7), -wider_last - math.log(1.35)
    first, last = first + 0.15, last + 0.45  # the middle of the published networks
    depth = np.log(sums.blocks[:, -1] / 12)
    numbers = {
        "one": np.ones_like(size), "macs": size, "params": weights, **shares,
        "reuse x macs": shares["reuse"] * size,
        "single-head x macs": shares["single-head"] * size,
        "cascaded-group x macs": shares["cascaded-group"] * size,
        "mixture": mixture,
        "kernels": kernels, "heads": heads, "partial": partial, "partial squared": partial**2,
        "dw-attention-ffn": layout, "ffn ratio": ratio, "resolution": np.log(sums.resolution / 224),
        "foreign": foreign, "stem stride": np.log2(16 / sums.stem_stride),
        "macs 1:2": first, "macs 3:2": last, "width 2:1": wider_second, "width 3:2": wider_last,
        "depth": depth,
        "macs squared": size**2, "balance squared": balance**2,
        "macs 1:2 squared": first**2, "macs 3:2 squared": last**2,
        "width 2:1 squared": wider_second**2, "width 3:2 squared": wider_last**2,
        "depth squared": depth**2,
    }  # fmt: skip
    return np.stack([numbers[feature.name] for feature in FEATURES], axis=1)


def _sizes(arch: ArchSpec) -> tuple[int, int, list[float]]:
    """MACs, parameters without the classifier, and the MACs of each stage with what leads into it."""
    stage_macs = [0.0] * len(arch.stages)
    macs = params = 0
    for op in lower(arch):
        stage = _stage_of(op)
        if stage is not None:
            stage_macs[stage] += op.macs
            params += op.params
        macs += op.macs
    return macs, params, stage_macs


def _size_numbers(op: OpSpec, stages: int) -> tuple[float, ...]:
    """MACs, parameters without the classifier, MACs by stage: what one op adds to `_sizes`."""
    own = _stage_of(op)
    macs = float(op.macs)
    in_head = own is None
    return macs, 0.0 if in_head else float(op.params), *(macs * (own == stage) for stage in range(stages))


def _stage_of(op: OpSpec) -> int | None:
    """The stage whose MACs an op counts with: the first one's for the stem; None for the head."""
    if op.place == "head":
        return None
    return int(op.place.split(".", 2)[1]) if op.place.startswith("stages.") else 0


def _ratios(amounts: Floats) -> tuple[Floats, Floats]:
    """ln(first / second) and ln(last / the one before), (n,) each; 0 where there is no second."""
    if amounts.shape[1] < 2:
        nothing = np.zeros(len(amounts))
        return nothing, nothing
    return np.log(amounts[:, 0] / amounts[:, 1]), np.log(amounts[:, -1] / amounts[:, -2])
