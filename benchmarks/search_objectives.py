"""Objectives that searches are compared on: what a search is told of a network, and what is true of it.

None of them is what the samplers were made for: a search sees `value - std` of what `told` answers,
and is judged by `true`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from hwnas.estimate import Estimate
from hwnas.predictors.accuracy import load_accuracy
from hwnas.space.arch import ArchSpec, Stage
from hwnas.space.ops import count_macs, count_params, lower

__all__ = ["OBJECTIVES", "Objective", "interacting", "noisy"]

NOISE_POINTS = 0.5
"""Standard deviation of the noisy objective: what another training seed may change in short trainings."""

# How well an attention suits the first, a middle and the last stage, in points.
SUITS = {
    "none": (0.6, -0.6, -1.4),
    "element-wise": (0.3, 0.0, -0.8),
    "single-head": (0.1, 0.7, 0.4),
    "cascaded-group": (-0.5, 0.4, 0.9),
    "reuse": (-0.3, 0.9, 0.5),
}
# What a stage's attention gains or loses by that of the stage before, in points.
AFTER = {
    ("none", "reuse"): 1.0,
    ("none", "cascaded-group"): 0.3,
    ("reuse", "cascaded-group"): 0.8,
    ("reuse", "single-head"): -0.6,
    ("single-head", "single-head"): 0.5,
    ("element-wise", "reuse"): -0.7,
    ("cascaded-group", "cascaded-group"): -0.5,
}


@dataclass(frozen=True, slots=True)
class Objective:
    """One thing to be maximised."""

    name: str
    told: Callable[[int], Callable[[ArchSpec], float | Estimate]]
    """For a seed, what a search is told."""
    true: Callable[[ArchSpec], float]


def interacting(arch: ArchSpec) -> float:
    """An invented accuracy in percent, in which the stages depend on each other.

    Compute helps ever less, and parameters beyond what compute asks for do not. Each stage suits
    some attentions, by its place and by the stage before; how deep it should be depends on how much
    wider it is than that one; large FFNs help where blocks are few.
    """
    ops = lower(arch)
    size = math.log(count_macs(ops) / 250e6)
    balance = math.log(count_params(ops) / 7e6) - size
    score = (
        74 + 7 * math.tanh(0.55 * size) - 1.2 * max(0.0, balance - 0.4) ** 2 - 0.8 * min(0.0, balance) ** 2
    )
    before: Stage | None = None
    for index, stage in enumerate(arch.stages):
        place = 0 if index == 0 else 2 if index == len(arch.stages) - 1 else 1
        types = ["none" if block is None else block.type for block in stage.blocks]
        score += sum(SUITS.get(name, (0.0, 0.0, 0.0))[place] for name in types) / len(types)
        deep = math.log(stage.depth * (2 if stage.layout == "sandwich" else 1))
        score -= 0.5 * (stage.ffn_ratio / 2 - 1 - 0.5 * (1.4 - deep)) ** 2
        if before is not None:
            pairs = [(other, name) for other in _types(before) for name in types]
            score += sum(AFTER.get(pair, 0.0) for pair in pairs) / len(pairs)
            wider = math.log(stage.width / before.width)
            score -= 3.0 * (wider - 0.35 - 0.2 * (deep - 1.2)) ** 2
        before = stage
    return score


def noisy(seed: int) -> Callable[[ArchSpec], float]:
    """`interacting` with normal noise, a different one for each seed and network."""

    def told(arch: ArchSpec) -> float:
        return interacting(arch) + random.Random(f"{seed}/{arch.id}").gauss(0.0, NOISE_POINTS)

    return told


def _types(stage: Stage) -> list[str]:
    return ["none" if block is None else block.type for block in stage.blocks]


def _published(arch: ArchSpec) -> Estimate:
    return load_accuracy("published").predict(arch)


OBJECTIVES = (
    Objective("published", lambda _: _published, lambda arch: _published(arch).lower_bound()),
    Objective("interacting", lambda _: interacting, interacting),
    Objective("noisy", noisy, interacting),
)
