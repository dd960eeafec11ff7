"""ArchSpec -> the numbers that `published` is linear in, and what is believed of each beforehand.

Everything is in units of ln(top-1 error): 0.04 is about one point of ImageNet top-1 at 74 %. A belief
with mean 0 rewards nothing: it only makes a prediction less sure the farther a network is from those
that were published. Squares are there for that: they stand for what a straight line may get wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.space.arch import ArchSpec, CascadedGroup, Reuse, SingleHead
from hwnas.space.ops import lower

__all__ = ["FEATURES", "Feature", "describe"]


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


def describe(arch: ArchSpec) -> NDArray[np.float64]:
    """The numbers of one network, in the order of FEATURES.

    The classifier is left out of the parameters: an estimate is for ImageNet-1K whatever the number
    of classes the architecture is set up for.
    """
    stages = arch.stages
    macs, params, stage_macs = _sizes(arch)
    size, weights = math.log(macs / 250e6), math.log(params / 7e6)
    balance = weights - size + 0.25  # the middle of the published networks

    blocks = [(stage, attention) for stage in stages for attention in stage.blocks]
    each = 1.0 / len(blocks)
    shares = dict.fromkeys(("reuse", "single-head", "cascaded-group", "element-wise", "none"), 0.0)
    kernels = heads = partial = layout = ratio = foreign = 0.0
    for stage, attention in blocks:
        shares["none" if attention is None else attention.type] += each
        if isinstance(attention, Reuse | CascadedGroup):
            kernels += each * math.log(sum(attention.kernels) / attention.heads / 4)
            heads += each * math.log(attention.heads / 3.5)
        elif isinstance(attention, SingleHead):
            partial += each * math.log(4.67 * attention.channels / stage.width)
        layout += each * (stage.layout == "dw-attention-ffn")
        foreign += each * (stage.layout == "ffn-attention")
        foreign += each * (isinstance(attention, Reuse) and attention.variant != "released")
        ratio += each * math.log2(stage.ffn_ratio / 2)
    attending = 1.0 - shares["none"]
    mixture = (
        attending - sum(share * share for name, share in shares.items() if name != "none") / attending
        if attending > 1e-9
        else 0.0
    )
    foreign += sum(stage.downsample != "merge" for stage in stages[1:])
    foreign += (arch.stem.kind != "conv") + (arch.head.kind != "linear") + 0.5 * abs(len(stages) - 3)

    first, last = _ratios(stage_macs)
    wider_second, wider_last = _ratios([1.0 / stage.width for stage in stages])
    wider_second, wider_last = wider_second - math.log(1.7), -wider_last - math.log(1.35)
    first, last = first + 0.15, last + 0.45  # the middle of the published networks
    ffns = sum(stage.depth * (2 if stage.layout == "sandwich" else 1) for stage in stages)
    depth = math.log(ffns / 12)
    numbers = {
        "one": 1.0, "macs": size, "params": weights, **shares,
        "reuse x macs": shares["reuse"] * size,
        "single-head x macs": shares["single-head"] * size,
        "cascaded-group x macs": shares["cascaded-group"] * size,
        "mixture": mixture,
        "kernels": kernels, "heads": heads, "partial": partial, "partial squared": partial**2,
        "dw-attention-ffn": layout, "ffn ratio": ratio, "resolution": math.log(arch.resolution / 224),
        "foreign": foreign, "stem stride": math.log2(16 / arch.stem.stride),
        "macs 1:2": first, "macs 3:2": last, "width 2:1": wider_second, "width 3:2": wider_last,
        "depth": depth,
        "macs squared": size**2, "balance squared": balance**2,
        "macs 1:2 squared": first**2, "macs 3:2 squared": last**2,
        "width 2:1 squared": wider_second**2, "width 3:2 squared": wider_last**2,
        "depth squared": depth**2,
    }  # fmt: skip
    return np.array([numbers[feature.name] for feature in FEATURES])


def _sizes(arch: ArchSpec) -> tuple[int, int, list[float]]:
    """MACs, parameters without the classifier, and the MACs of each stage with what leads into it."""
    stage_macs = [0.0] * len(arch.stages)
    macs = params = index = 0
    for op in lower(arch):
        if op.place.startswith("stages."):
            index = int(op.place.split(".", 2)[1])
        if op.place != "head":
            stage_macs[index] += op.macs
            params += op.params
        macs += op.macs
    return macs, params, stage_macs


def _ratios(amounts: list[float]) -> tuple[float, float]:
    """ln(first / second) and ln(last / the one before); 0 where there is no second."""
    if len(amounts) < 2:
        return 0.0, 0.0
    return math.log(amounts[0] / amounts[1]), math.log(amounts[-1] / amounts[-2])
