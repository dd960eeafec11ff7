"""Which networks of a space one update trains: the largest, the smallest, and random ones between.

The sandwich rule (Yu and Huang, Universally Slimmable Networks, ICCV 2019). Weights are shared within an
attention type, so there is a largest and a smallest network of each type; the types take turns, update by
update. Random networks between them are of that type, or mixtures of any types, in turn.

Within a limit of MACs no network is the largest in everything: what is wide must be shallow. There, each
update takes another one of those that the limit lets grow no further, so that all widths and depths are
reached as often as others. One and the same such network would leave what it is small in to chance:
experiments/supernet shows what that does to the order.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from hwnas.errors import UsageError
from hwnas.space import ArchSpec, Head, SearchSpace, Stage, StageSpace, Stem, count_macs, lower
from hwnas.space.arch import ATTENTIONS

__all__ = ["Sandwich"]

MAX_DRAWS = 2000


@dataclass(frozen=True)
class Sandwich:
    """The networks of each update."""

    space: SearchSpace
    random_networks: int = 2
    """Random networks an update."""
    max_macs: float = 0.0
    """No network beyond so many MACs is trained; 0 is without a limit. Whoever searches within a budget
    never asks for those beyond it, and they would take most of the time."""

    def __post_init__(self) -> None:
        if self.random_networks < 0:
            raise UsageError(f"random_networks must be at least 0, got {self.random_networks}")
        for type_, smallest in zip(self.types, self.smallest, strict=True):
            if not self.allows(smallest):
                raise UsageError(
                    f"max_macs must leave every attention type a network, got {self.max_macs:.3g}: the "
                    f"smallest with {type_} has {_macs(smallest):.3g}"
                )

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The attention types of the space, in the order of their turns; 'none' if it has no attention."""
        there = {
            option.attention.type
            for stage in self.space.stages
            for option in stage.attention
            if option.attention is not None
        }
        return tuple(type_ for type_ in ATTENTIONS if type_ in there) or ("none",)

    @cached_property
    def largest(self) -> tuple[ArchSpec, ...]:
        """For each type, its network with the most MACs; where that is beyond `max_macs`, all its widths,
        depths and ratios are lowered in turn, until it is within."""
        return tuple(
            self._within(arch, type_) for type_, arch in zip(self.types, self._unlimited, strict=True)
        )

    @property
    def recurring(self) -> tuple[ArchSpec, ...]:
        """The networks that every turn of a type trains."""
        free = (arch for arch in self._unlimited if self.allows(arch))
        return (*free, *self.smallest)

    @cached_property
    def smallest(self) -> tuple[ArchSpec, ...]:
        """For each type, its network with the fewest MACs."""
        return tuple(self._extreme(type_, largest=False) for type_ in self.types)

    def allows(self, arch: ArchSpec) -> bool:
        """Whether a network is within `max_macs`."""
        return not self.max_macs or _macs(arch) <= self.max_macs

    def networks(self, number: int, rng: random.Random) -> tuple[ArchSpec, ...]:
        """The networks of update `number`, from 0: the largest first (within a limit, one that cannot grow),
        then the smallest, then random ones."""
        turn = number % len(self.types)
        of_type, largest = self.of_type(self.types[turn]), self._unlimited[turn]
        if not self.allows(largest):
            largest = self._grown(self._draw(of_type, rng), of_type, rng)
        drawn = [
            self._draw(of_type if place % 2 == 0 else self.space, rng)
            for place in range(self.random_networks)
        ]
        return (largest, self.smallest[turn], *drawn)

    def of_type(self, type_: str) -> SearchSpace:
        """The part of the space whose blocks attend with one type, or not at all; a stage that has no
        such attention for all its widths and layouts keeps all it has."""
        return self._narrowed[type_]

    @cached_property
    def _unlimited(self) -> tuple[ArchSpec, ...]:
        """For each type, its network with the most MACs."""
        return tuple(self._extreme(type_, largest=True) for type_ in self.types)

    @cached_property
    def _narrowed(self) -> dict[str, SearchSpace]:
        return {
            type_: dataclasses.replace(
                self.space, stages=tuple(_narrowed(stage, type_) for stage in self.space.stages)
            )
            for type_ in self.types
        }

    def _draw(self, space: SearchSpace, rng: random.Random) -> ArchSpec:
        for _ in range(MAX_DRAWS):
            arch = space.sample(rng)
            if self.allows(arch):
                return arch
        raise UsageError(
            f"max_macs must leave the space more networks, got {self.max_macs:.3g}: none of {MAX_DRAWS} "
            "random ones is within: raise it, or narrow the space"
        )

    def _extreme(self, type_: str, *, largest: bool) -> ArchSpec:
        """All numbers at one end; in each stage the layout and the attention that then cost most or least."""
        pick = _most if largest else _least
        stages: tuple[Stage, ...] = ()
        for stage in self.of_type(type_).stages:
            width, depth, ratio = pick(stage.width), pick(stage.depth), pick(stage.ffn_ratio)
            networks = [
                ArchSpec(
                    stages=(*stages, variant),
                    resolution=pick(self.space.resolution),
                    stem=Stem(stride=(_least if largest else _most)(self.space.stem_stride)),
                    head=Head(classes=self.space.classes),
                )
                for variant in _variants(stage, type_, width, depth, ratio)
            ]
            macs = [_macs(network) for network in networks]
            stages = networks[macs.index(pick(macs))].stages
            found = networks[macs.index(pick(macs))]
        return found

    def _within(self, arch: ArchSpec, type_: str) -> ArchSpec:
        space = self.of_type(type_)
        while not self.allows(arch):
            before = arch
            for place in range(len(space.decisions)):
                arch = _moved(space, arch, place, dearer=False) or arch
                if self.allows(arch):
                    break
            if arch == before:
                break
        return arch

    def _grown(self, arch: ArchSpec, space: SearchSpace, rng: random.Random) -> ArchSpec:
        """The network with numbers raised in random order, until none can be within the limit."""
        places, macs = list(range(len(space.decisions))), _macs(arch)
        while places:
            place = rng.choice(places)
            larger = _moved(space, arch, place, dearer=True)
            if larger is not None and macs < (more := _macs(larger)) <= self.max_macs:
                arch, macs = larger, more
            else:
                places.remove(place)
        return arch


def _moved(space: SearchSpace, arch: ArchSpec, place: int, *, dearer: bool) -> ArchSpec | None:
    """The network with one number a step dearer or cheaper; None where there is no such step."""
    decision, vector = space.decisions[place], list(space.encode(arch))
    vector[place] += 1 if dearer == (decision.name != "stem_stride") else -1
    if not decision.ordinal or not 0 <= vector[place] < len(decision.choices):
        return None
    return space.decode(space.repair(vector))


def _variants(stage: StageSpace, type_: str, width: int, depth: int, ratio: int) -> Iterator[Stage]:
    """A stage of these numbers with each layout and each attention of the type; with any attention, where
    it has none of the type."""
    for strict in (True, False):
        found = False
        for layout in stage.layout:
            for number in stage.allowed(width, layout):
                attention = stage.attention[number].fitted(width)
                if not strict or (attention is not None and attention.type == type_):
                    found = True
                    yield Stage(width=width, blocks=(attention,) * depth, layout=layout, ffn_ratio=ratio)
        if found:
            return


def _narrowed(stage: StageSpace, type_: str) -> StageSpace:
    kept = tuple(
        option for option in stage.attention if option.attention is None or option.attention.type == type_
    )
    if not any(option.attention is not None for option in kept):
        return stage
    narrowed = dataclasses.replace(stage, attention=kept)
    fits = all(narrowed.allowed(width, layout) for width in stage.width for layout in stage.layout)
    return narrowed if fits else stage


def _most(numbers: Sequence[int]) -> int:
    return max(numbers)


def _least(numbers: Sequence[int]) -> int:
    return min(numbers)


def _macs(arch: ArchSpec) -> int:
    return count_macs(lower(arch))
