"""Which networks are trained, and in which order: any prefix is balanced by attention and latency.

Writes networks.jsonl, which ships: a change of the sampler or of the latency table changes no network
that was trained. Run it again with a higher --count to append; the first ones stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.errors import HwnasError
from hwnas.predictors.latency import LatencyTable
from hwnas.space import ArchSpec, SearchSpace, count_macs, count_params, lower, preset, preset_names

FILE = Path(__file__).with_name("networks.jsonl")
TYPES = ("reuse", "cascaded-group", "single-head", "element-wise", "mixed")
"""What a network attends with: one type in all blocks that attend, or any mixture of them."""
EDGES_MS = (1.5, 2.2, 3.2, 4.7, 7.0)
"""Bins of predicted latency on cpu-x86, about a factor of 1.47 each."""
PRESET_EVERY = 4
"""One network in so many is a published one, while they last."""
RESOLUTION, STEM_STRIDE = 32, 4
"""What every network is adapted to: 8 x 8 positions in its first stage."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """A network of the ground truth."""

    number: int
    arch: ArchSpec
    """As searched, for 224 pixels."""
    origin: str
    """The preset's name, or 'sampled TYPE'."""
    kind: str
    """One of TYPES."""
    latency_ms: float
    """Predicted on cpu-x86, at 224 pixels, when it was drawn."""

    @property
    def trained(self) -> ArchSpec:
        """What is trained: the same blocks for CIFAR-10's images."""
        return as_trained(self.arch)

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "id": self.arch.id,
            "origin": self.origin,
            "kind": self.kind,
            "cpu_x86_ms": round(self.latency_ms, 4),
            "mmacs": round(count_macs(lower(self.arch)) / 1e6, 2),
            "params_m": round(count_params(lower(self.arch)) / 1e6, 3),
            "arch": self.arch.to_dict(),
        }


def as_trained(arch: ArchSpec) -> ArchSpec:
    """The network for CIFAR-10's images."""
    return arch.adapted(resolution=RESOLUTION, stem_stride=STEM_STRIDE, classes=10)


def subjects() -> tuple[Subject, ...]:
    """The networks of networks.jsonl, in order."""
    rows = [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.exists() else []
    return tuple(
        Subject(row["number"], ArchSpec.from_dict(row["arch"]), row["origin"], row["kind"], row["cpu_x86_ms"])
        for row in rows
    )


def kind_of(arch: ArchSpec) -> str:
    """The one attention type of a network, or 'mixed' (also for one without attention)."""
    types = {block.type for stage in arch.stages for block in stage.blocks if block is not None}
    return types.pop() if len(types) == 1 else "mixed"


def drawn(space: SearchSpace, table: LatencyTable, rng: random.Random, kind: str, bin_: int) -> Subject:
    """A random network of one kind and one latency bin."""
    low, high = EDGES_MS[bin_], EDGES_MS[bin_ + 1]
    while True:
        arch = space.sample(rng) if kind == "mixed" else _of_one_type(space, rng, kind)
        if kind_of(arch) != kind:
            continue
        latency_ms = table.predict(arch).value
        if low <= latency_ms < high:
            return Subject(0, arch, f"sampled {kind}", kind, latency_ms)


def _of_one_type(space: SearchSpace, rng: random.Random, kind: str) -> ArchSpec:
    """A random network whose blocks attend with one type, or not at all."""
    narrowed = dataclasses.replace(
        space,
        stages=tuple(
            dataclasses.replace(
                stage,
                attention=tuple(
                    option
                    for option in stage.attention
                    if option.attention is None or option.attention.type == kind
                ),
            )
            for stage in space.stages
        ),
    )
    return narrowed.sample(rng)


def published(table: LatencyTable) -> list[Subject]:
    """The presets that can be adapted, fast and slow in turn."""
    found = []
    for name in preset_names():
        arch = preset(name)
        try:
            subject = Subject(0, arch, name, kind_of(arch), table.predict(arch).value)
            lower(subject.trained)
        except HwnasError as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        found.append(subject)
    found.sort(key=lambda subject: subject.latency_ms)
    half = (len(found) + 1) // 2
    in_turn = [found[place // 2 + (place % 2) * half] for place in range(len(found) - len(found) % 2)]
    return in_turn + [subject for subject in found if subject not in in_turn]


def endless(table: LatencyTable) -> Iterator[Subject]:
    """All networks, in order, without their numbers."""
    space = dataclasses.replace(SearchSpace.default(), resolution=(224,))
    models = iter(published(table))
    rng = random.Random(0)
    drawn_so_far = 0
    while True:
        for _ in range(PRESET_EVERY - 1):
            kind = TYPES[drawn_so_far % len(TYPES)]
            bin_ = drawn_so_far % (len(EDGES_MS) - 1)  # 5 kinds and 4 bins: all 20 pairs in 20 draws
            yield drawn(space, table, rng, kind, bin_)
            drawn_so_far += 1
        model = next(models, None)
        if model is not None:
            yield model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=120, help="networks in all")
    arguments = parser.parse_args()
    known = subjects()
    table = LatencyTable.load("cpu-x86")
    with FILE.open("a") as file:
        for number, subject in enumerate(endless(table)):
            if number >= arguments.count:
                break
            if number < len(known):
                if known[number].arch.id != subject.arch.id:
                    raise SystemExit(f"network {number} is no longer drawn: raise --count on the old version")
                continue
            line = dataclasses.replace(subject, number=number).to_dict()
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
