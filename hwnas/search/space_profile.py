"""SpaceProfile: how large a space is, how fast its networks are on a device, what each decision costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.search.objectives import Latency, Quantity, Size
from hwnas.space.search_space import SearchSpace, StageSpace, Vector
from hwnas.space.vectors import Moves, filled
from hwnas.types import Floats, Ints

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = ["QUANTILES", "ChoiceCost", "SpaceProfile", "profile_space"]

SAMPLE = 20_000
"""Random networks that the quantiles are taken from."""
COST_SAMPLE = 2_000
"""Of them, those in which each choice is made in turn."""
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class ChoiceCost:
    """What one choice of a decision costs: the mean over random networks in which it is made."""

    decision: str
    """As `stages.1.width`; `stages.1.attention` for all blocks of a stage."""
    choice: str
    latency_ms: float | None
    """Mean latency of the networks; None without a device."""
    macs: float
    """Their mean MACs."""


@dataclass(frozen=True, slots=True)
class SpaceProfile:
    """A space in numbers. Latencies are in ms, as the table predicts them."""

    name: str
    size: int
    """Number of networks."""
    device: str
    """Empty without a device: then there are no latencies."""
    provenance: str
    quantiles: Mapping[str, tuple[float, ...]]
    """Of `latency`, `macs`, `params` over random networks, in the order of QUANTILES."""
    smallest: Mapping[str, float]
    """The least of each quantity, by coordinate descent: the fastest network has the least latency."""
    largest: Mapping[str, float]
    costs: tuple[ChoiceCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "size": self.size,
            "device": self.device or None,
            "provenance": self.provenance or None,
            "quantiles": {"at": list(QUANTILES), **{name: list(row) for name, row in self.quantiles.items()}},
            "smallest": dict(self.smallest),
            "largest": dict(self.largest),
            "costs": [
                {
                    "decision": one.decision,
                    "choice": one.choice,
                    "latency_ms": one.latency_ms,
                    "macs": one.macs,
                }
                for one in self.costs
            ],
        }


def profile_space(space: SearchSpace, table: LatencyTable | None = None, *, seed: int = 0) -> SpaceProfile:
    """The profile of a space, on the device of a table where one is given.

    Raises MissingOpError when the table has no row for an op of the space.
    """
    moves, rng = Moves(space), np.random.default_rng(seed)
    quantities: dict[str, Quantity] = {} if table is None else {"latency": Latency(table, space)}
    quantities |= {name: Size(name, space) for name in ("macs", "params")}
    drawn = moves.random(SAMPLE, rng)
    return SpaceProfile(
        name=space.name,
        size=space.size,
        device="" if table is None else table.name,
        provenance="" if table is None else table.provenance,
        quantiles={
            name: tuple(np.quantile(one.of(drawn), QUANTILES).tolist()) for name, one in quantities.items()
        },
        smallest={name: _extreme(space, one, sign=1) for name, one in quantities.items()},
        largest={name: _extreme(space, one, sign=-1) for name, one in quantities.items()},
        costs=_costs(space, moves, drawn[:COST_SAMPLE], quantities),
    )


def _costs(
    space: SearchSpace, moves: Moves, drawn: Ints, quantities: Mapping[str, Quantity]
) -> tuple[ChoiceCost, ...]:
    rows: list[tuple[str, str, Ints]] = []
    for place, decision in enumerate(space.decisions):
        if len(decision.choices) > 1 and ".blocks." not in decision.name:
            for number, choice in enumerate(decision.choices):
                changed = moves.filled(drawn)
                changed[:, place] = number
                rows.append((decision.name, str(choice), moves.repaired(changed)))
    for index, (stage, part) in enumerate(zip(space.stages, moves.stages, strict=True)):
        for number in range(len(stage.attention)) if len(stage.attention) > 1 else ():
            # Where the option does not fit a network's width or layout, nothing is said of it.
            fits = part.allowed[drawn[:, part.width], drawn[:, part.layout], number]
            changed = drawn[fits]
            changed[:, part.blocks] = np.where(part.active(changed), number, changed[:, part.blocks])
            rows.append((f"stages.{index}.attention", _option_text(stage, number), changed))
    return tuple(
        ChoiceCost(
            decision,
            choice,
            float(quantities["latency"].of(vectors).mean()) if "latency" in quantities else None,
            float(quantities["macs"].of(vectors).mean()),
        )
        for decision, choice, vectors in rows
        if len(vectors)
    )


def _option_text(stage: StageSpace, number: int) -> str:
    """`reuse heads=4 kernels=1-3-5-7`."""
    data = stage.attention[number].to_dict()
    if isinstance(data, str):
        return data
    texts = [
        f"{name}={'-'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in data.items()
        if name != "type"
    ]
    return " ".join([str(data["type"]), *texts])


def _extreme(space: SearchSpace, quantity: Quantity, *, sign: int) -> float:
    """The least (`sign` 1) or the most (-1) of a quantity, by coordinate descent from both ends."""
    ends = []
    for start in ([0] * len(space.decisions), [len(one.choices) - 1 for one in space.decisions]):
        vector = space.repair(start)
        best = np.inf
        while True:
            tried = [vector, *_neighbours(space, vector)]
            values: Floats = sign * quantity.of(tried)
            place = int(np.argmin(values))
            if not values[place] < best:
                break
            best, vector = float(values[place]), tried[place]
        ends.append(best)
    return sign * min(ends)


def _neighbours(space: SearchSpace, vector: Vector) -> list[Vector]:
    """Every network that differs in one decision."""
    found = []
    for place, decision in enumerate(space.decisions):
        for choice in range(len(decision.choices)):
            values = list(filled(space, vector))
            values[place] = choice
            found.append(space.repair(values))
    return found
