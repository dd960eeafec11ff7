"""What a table needs measured: which ops, which whole networks, and in which order."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError
from hwnas.predictors.latency.features import op_family, op_features
from hwnas.predictors.latency.measurements import GRAPH
from hwnas.space.arch import ArchSpec, Head, Stage, Stem
from hwnas.space.ops import OpSpec, lower
from hwnas.space.presets import preset, preset_names
from hwnas.space.search_space import SearchSpace

__all__ = ["COMPANION", "GRAPH", "Plan", "make_plan", "of_any_size", "space_ops", "spread_out"]

COMPANION = "uniform-t"
"""The preset that everything is timed in turns with."""

OPS_EVERY = 2
"""Passes from one that has ops in it to the next."""
_POOL = 1000
"""Random networks of which the spread-out half of the calibrating ones is chosen."""

# Seconds a cell, as seen on two x86 cores; only for telling beforehand how long it takes.
_OP_S = 0.14
_NETWORK_S = 0.57
_EXPORT_OP_S = 0.016
_EXPORT_NETWORK_S = 0.65
_AGAIN = 0.13  # Of the cells are timed once more, since the machine was disturbed the first time.


@dataclass(frozen=True, slots=True)
class Plan:
    """A table's cells: each op and each network is one, in every pass."""

    ops: tuple[OpSpec, ...]
    """Measured, each as a model of its own."""
    filled: tuple[OpSpec, ...]
    """Not measured: a cost model fills them in."""
    drawn: tuple[tuple[str, ArchSpec], ...]
    """Whole networks drawn at random, with labels: the calibration is fitted on them, and its error is
    told by each one's prediction from a fit without it."""
    spread: tuple[tuple[str, ArchSpec], ...]
    """Whole networks that differ most from the others: the calibration is fitted on them as well, but
    they are no sample of what is searched, and say nothing of the error."""
    companion: tuple[str, ArchSpec]
    """The network that all are timed in turns with."""
    passes: int
    """In each, every network is timed; in every second one, every op: networks come to more nodes and
    more memory, wander more, and are fewer."""
    seed: int
    watched: tuple[tuple[str, ArchSpec], ...] = ()
    """Whole networks that are timed like the others and used for nothing: what a table is judged by that
    was built meanwhile, on the same machine in the same state."""

    @property
    def op_passes(self) -> int:
        """Passes that have ops in them."""
        return -(-self.passes // OPS_EVERY)

    @property
    def networks(self) -> tuple[tuple[str, ArchSpec], ...]:
        return self.drawn + self.spread

    @property
    def cells(self) -> int:
        """Timings of all passes."""
        return self.op_passes * len(self.ops) + self.passes * len(self.networks + self.watched)

    @property
    def seconds(self) -> float:
        """About how long it takes, exporting and what is timed again included, on a board like a desktop
        computer."""
        ops, networks = len(self.ops), len(self.networks + self.watched)
        return self.measuring_s * (1 + _AGAIN) + ops * _EXPORT_OP_S + networks * _EXPORT_NETWORK_S

    @property
    def measuring_s(self) -> float:
        """About what the timings of all passes take."""
        networks = len(self.networks + self.watched)
        return self.op_passes * len(self.ops) * _OP_S + self.passes * networks * _NETWORK_S

    @property
    def cell_s(self) -> float:
        """About what one timing takes, in the mean."""
        return self.measuring_s / max(self.cells, 1)

    @property
    def digest(self) -> str:
        """Names exactly these cells: what a resumed build must have in common with the first."""
        parts = [op.key for op in self.ops] + [
            f"{label}={arch.id}" for label, arch in self.networks + self.watched
        ]
        return hashlib.sha256("\n".join([*parts, self.companion[1].id]).encode()).hexdigest()[:16]

    def order(self, number: int) -> list[str]:
        """The cells of one pass by name (op key or network label), in random order."""
        names = [label for label, _ in self.networks + self.watched]
        if number % OPS_EVERY == 0:
            names += [op.key for op in self.ops]
        random.Random(f"{self.seed}/{number}").shuffle(names)
        return names


def make_plan(
    space: SearchSpace,
    *,
    networks: int = 90,
    passes: int = 6,
    minutes: float | None = None,
    measure_all: bool = True,
    seed: int = 0,
    extra: Sequence[ArchSpec] = (),
) -> Plan:
    """Ops of the presets and of `extra` are measured; of the rest of the space as many as fit.

    `networks` whole networks of all sizes, two thirds of them drawn at random, the others spread out;
    no preset is among them. With `minutes` the rest of the ops is a subset that lies spread out among
    them; with `measure_all` and no limit, all of them.

    Raises UsageError when the time is too short for the networks and the presets' ops.
    """
    rng = random.Random(f"{seed}/networks")
    presets = [preset(name) for name in preset_names()]
    drawn: dict[str, ArchSpec] = {}
    known = {arch.id for arch in presets}
    while len(drawn) < networks - networks // 3:
        arch = of_any_size(space, rng)
        if arch.id not in known:
            known.add(arch.id)
            drawn[f"random-{arch.id}"] = arch
    pool = [arch for arch in (of_any_size(space, rng) for _ in range(_POOL)) if arch.id not in known]
    spread = _networks_spread_out(pool, networks // 3, near=list(drawn.values()))

    required = _unique(op for arch in [*presets, *extra] for op in lower(arch))
    chosen = {op.key for op in required}
    rest = [op for op in space_ops(space) if op.key not in chosen]
    plan = Plan(
        ops=tuple(required),
        filled=tuple(rest),
        drawn=tuple(drawn.items()),
        spread=tuple((f"random-{arch.id}", arch) for arch in spread),
        companion=(COMPANION, preset(COMPANION)),
        passes=passes,
        seed=seed,
    )
    room = len(rest) if measure_all else 0
    if minutes is not None:
        an_op_s = plan.op_passes * _OP_S * (1 + _AGAIN) + _EXPORT_OP_S
        room = int((minutes * 60 - plan.seconds) / an_op_s)
        if room < 0:
            raise UsageError(
                f"{len(plan.ops)} ops of the presets and {len(plan.networks)} whole networks take about "
                f"{plan.seconds / 60:.1f} min, got --minutes {minutes:g}. Give more, or fewer --networks"
            )
    measured = spread_out(rest, min(room, len(rest)), near=required)
    names = {op.key for op in measured}
    return dataclasses.replace(
        plan,
        ops=tuple(required) + tuple(measured),
        filled=tuple(op for op in rest if op.key not in names),
    )


def of_any_size(space: SearchSpace, rng: random.Random) -> ArchSpec:
    """A random network, some of whose widths and depths are the smallest: from none to all of them.

    Plain random networks are nearly all large, while a search within a budget ends at small ones.
    """
    smallest = rng.random()
    vector = [
        0 if decision.ordinal and rng.random() < smallest else number
        for decision, number in zip(space.decisions, space.encode(space.sample(rng)), strict=True)
    ]
    return space.decode(space.repair(vector))


def space_ops(space: SearchSpace) -> list[OpSpec]:
    """Every op that some network of the space runs, each once, in a fixed order."""
    archs = []
    for resolution in space.resolution:
        for stride in space.stem_stride:
            for index, stage in enumerate(space.stages):
                for number, width in enumerate(stage.width):
                    for layout in stage.layout:
                        options = stage.allowed(width, layout)
                        for ratio in stage.ffn_ratio:
                            # One network has every attention of this stage, width, layout and ratio.
                            special = Stage(
                                width=width,
                                blocks=tuple(stage.attention[option].fitted(width) for option in options),
                                layout=layout,
                                ffn_ratio=ratio,
                            )
                            archs.append(_around(space, index, special, 0, resolution, stride))
                    if index:
                        before = range(len(space.stages[index - 1].width))
                        plain = Stage(width=space.stages[index].width[number], blocks=(None,), layout=_PLAIN)
                        archs += [_around(space, index, plain, b, resolution, stride) for b in before]
    # The neighbours of the stage of interest are plain blocks: their ops may be of no network.
    real = {
        (op.kind, op.settings) for stage_ops in (_real_ops(space, arch) for arch in archs) for op in stage_ops
    }
    return _unique(op for arch in archs for op in lower(arch) if (op.kind, op.settings) in real)


_PLAIN = "dw-attention-ffn"


def _around(
    space: SearchSpace, index: int, special: Stage, before: int, resolution: int, stride: int
) -> ArchSpec:
    """A network with the given stage, the width of the one before it, and nothing else of interest."""
    stages = tuple(
        special
        if number == index
        else Stage(width=stage.width[before if number == index - 1 else 0], blocks=(None,), layout=_PLAIN)
        for number, stage in enumerate(space.stages)
    )
    return ArchSpec(stages, resolution, Stem(stride=stride), Head(classes=space.classes))


def _real_ops(space: SearchSpace, arch: ArchSpec) -> list[OpSpec]:
    """The ops outside blocks that are there only to complete the network."""
    plain = [
        index
        for index, (choices, stage) in enumerate(zip(space.stages, arch.stages, strict=True))
        if stage.layout == _PLAIN
        and stage.blocks == (None,)
        and (stage.ffn_ratio not in choices.ffn_ratio or _PLAIN not in choices.layout)
    ]
    return [
        op for op in lower(arch) if not any(op.place.startswith(f"stages.{index}.blocks.") for index in plain)
    ]


def spread_out(ops: Sequence[OpSpec], count: int, *, near: Sequence[OpSpec] = ()) -> list[OpSpec]:
    """`count` of the ops that leave none far from a chosen one, or from one in `near`.

    Farthest point first, within each family, in log-feature space: families take turns by how far
    their farthest op is. In the order chosen.
    """
    if count >= len(ops):
        return list(ops)
    groups = [op_family(op) for op in [*ops, *near]]
    places = np.array([np.log1p(op_features(op)) for op in [*ops, *near]])
    return [ops[index] for index in _farthest_first(places, groups, len(ops), count)]


def _networks_spread_out(
    archs: Sequence[ArchSpec], count: int, *, near: Sequence[ArchSpec]
) -> list[ArchSpec]:
    """`count` of the networks that differ most, from each other and from those in `near`."""
    places = [np.log1p(sum(op_features(op) for op in lower(arch))) for arch in [*archs, *near]]
    chosen = _farthest_first(np.array(places), [""] * len(places), len(archs), count)
    return [archs[index] for index in chosen]


def _farthest_first(
    places: NDArray[np.float64], groups: Sequence[str], choices: int, count: int
) -> list[int]:
    """Which of the first `choices` places to take, in order; the places behind them are taken already.

    Each time the one that is farthest from all taken places of its group.
    """
    names = np.array(groups)
    far = np.full(choices, np.inf)
    chosen: list[int] = []

    def take(index: int) -> None:
        distance = np.linalg.norm(places[:choices] - places[index], axis=1)
        far[:] = np.where(names[:choices] == names[index], np.minimum(far, distance), far)

    for index in range(choices, len(places)):
        take(index)
    while len(chosen) < count:
        index = int(np.argmax(far))
        chosen.append(index)
        take(index)
        far[index] = -1.0
    return chosen


def _unique(ops: Iterable[OpSpec]) -> list[OpSpec]:
    return list({op.key: op for op in ops}.values())
