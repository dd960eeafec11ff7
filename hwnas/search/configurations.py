"""Several latency tables of one board: a search names the network and the configuration it runs in.

A configuration is a runtime, a precision and a number of threads, as a table has them. A network's latency
is that of the fastest configuration, and its accuracy is the estimate less that configuration's penalty.
The record holds the latency in every configuration that is within the budget, and the front is chosen
among all these pairs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.search.config import Configuration, SearchConfig
from hwnas.search.objectives import Latency, Vectors
from hwnas.search.trial import Trial
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.types import Floats, Ints
from hwnas.units import is_rate, parse_ms, parse_throughput

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = [
    "INT8_PENALTY",
    "BoardTables",
    "Fastest",
    "configurations_of",
    "in_each_configuration",
    "run_budget_ms",
    "split_device",
    "without_penalty",
]

DECIMALS = 10
INT8_PENALTY = 0.75
"""Points of top-1 accuracy that int8 is taken to cost where nobody measured it."""
INT8_SOURCE = (
    "ViT-B/16, static int8 by Intel Neural Compressor: 80.576 % for 81.326 % on ImageNet-1K "
    "(huggingface.co/Intel/vit-base-patch16-224-int8-static-inc). Measure your own with "
    "'hwnas export --precision int8 --evaluate DATA' and give it as --int8-penalty"
)


@dataclass(frozen=True)
class BoardTables:
    """Latency tables of one board and batch size; as a predictor, the fastest of them."""

    names: tuple[str, ...]
    """As the tables were given: names or files."""
    tables: tuple[LatencyTable, ...]

    def __post_init__(self) -> None:
        """Raises UsageError for tables that are not alternatives: another board or batch, or one twice."""
        if len(set(self.names)) < len(self.names):
            raise UsageError(f"each table may be given once, got {', '.join(self.names)}")
        for what in ("board", "batch"):
            found = {
                name: getattr(one.profile, what) for name, one in zip(self.names, self.tables, strict=True)
            }
            if len(set(found.values())) > 1:
                shown = ", ".join(f"{name}: {value}" for name, value in found.items())
                raise UsageError(
                    f"tables joined by commas are configurations of one board, their {what} differs: "
                    f"{shown}. Give another board its own --device and --budget"
                )

    @property
    def name(self) -> str:
        return ",".join(self.names)

    @property
    def digest(self) -> str:
        """SHA-256 of the tables' digests."""
        return hashlib.sha256(" ".join(one.digest for one in self.tables).encode()).hexdigest()

    @property
    def provenance(self) -> str:
        return ", ".join(dict.fromkeys(one.provenance for one in self.tables))

    @property
    def unit(self) -> str:
        return "ms"

    def predict(self, arch: ArchSpec) -> Estimate:
        """The latency in the fastest configuration."""
        return min((one.predict(arch) for one in self.tables), key=lambda estimate: estimate.value)

    def predict_many(self, encoded: Ints, space: SearchSpace) -> Floats:
        """The same of many networks, shape (n,)."""
        return np.asarray(np.min([one.predict_many(encoded, space) for one in self.tables], axis=0))


class Fastest:
    """A quantity: the latency in the configuration that has the least bound; see `Quantity`."""

    unit = "ms"

    def __init__(
        self, tables: BoardTables, space: SearchSpace, *, name: str, confidence: float | None
    ) -> None:
        self.name = name
        self.each = tuple(Latency(one, space, confidence=confidence) for one in tables.tables)
        """The latency in each configuration, in their order."""

    def of(self, vectors: Vectors) -> Floats:
        every = np.stack([one.of(vectors) for one in self.each])
        return np.asarray(np.take_along_axis(every, self.which(vectors)[None], axis=0)[0])

    def bound_value(self, vectors: Vectors) -> Floats:
        return np.asarray(self.bounds(vectors).min(axis=0))

    def bounds(self, vectors: Vectors) -> Floats:
        """What each configuration's latency counts against the budget, shape (configurations, n)."""
        return np.stack([one.bound_value(vectors) for one in self.each])

    def which(self, vectors: Vectors) -> Ints:
        """The place of each network's fastest configuration, shape (n,)."""
        return np.asarray(np.argmin(self.bounds(vectors), axis=0))

    def estimate(self, vector: Vector) -> Estimate:
        return self.estimates([vector])[0]

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        every = [one.estimates(vectors) for one in self.each]
        return [every[place][row] for row, place in enumerate(self.which(vectors).tolist())]


def split_device(device: str) -> list[str]:
    """The tables that a device names: `a,b` are two, unless there is a file of that name."""
    return (
        [device] if "," not in device or Path(device).exists() else [one for one in device.split(",") if one]
    )


def run_budget_ms(device: str | LatencyTable, budget: str | float) -> float:
    """Milliseconds of one run on a device: of a time (`20ms`), or of images per second (`40000/s`) at the
    batch size of the device's table.

    Raises UsageError for anything else, and what `LatencyTable.load` raises for a rate.
    """
    if not (isinstance(budget, str) and is_rate(budget)):
        return parse_ms(budget)
    from hwnas.predictors.latency import LatencyTable

    table = device if isinstance(device, LatencyTable) else LatencyTable.load(split_device(device)[0])
    return table.profile.run_ms(parse_throughput(budget))


def configurations_of(
    tables: BoardTables, *, int8_penalty: float | None, accuracy_unit: str
) -> tuple[Configuration, ...]:
    """The configurations of a board's tables, with the accuracy that each costs.

    `int8_penalty` is in the estimator's unit; None takes `INT8_PENALTY`. Other precisions cost nothing.
    Raises UsageError for a penalty below 0, and where the default does not apply to the estimator's unit.
    """
    if int8_penalty is not None and not 0 <= int8_penalty < 100:
        raise UsageError(f"--int8-penalty must be from 0 to below 100, got {int8_penalty:g}")
    found = []
    for name, table in zip(tables.names, tables.tables, strict=True):
        profile = table.profile
        penalty, source = 0.0, ""
        if profile.precision == "int8":
            penalty, source = (INT8_PENALTY, INT8_SOURCE) if int8_penalty is None else (int8_penalty, "given")
            if int8_penalty is None and accuracy_unit != "%":
                raise UsageError(
                    f"the accuracy that int8 costs is known in % of top-1, and the estimator's unit is "
                    f"'{accuracy_unit}': give it as --int8-penalty"
                )
        found.append(
            Configuration(
                device=name,
                digest=table.digest,
                provenance=table.provenance,
                runtime=profile.runtime,
                precision=profile.precision,
                threads=profile.threads,
                penalty=penalty,
                penalty_source=source,
            )
        )
    return tuple(found)


def in_each_configuration(trial: Trial, config: SearchConfig) -> list[Trial]:
    """The network in each configuration that is within the budget; the trial itself without any."""
    if not trial.configuration:
        return [trial]
    names = {one.latency for one in config.configurations}
    also = {name: estimate for name, estimate in trial.also.items() if name not in names}
    whole = without_penalty(trial, config)
    return [
        dataclasses.replace(
            trial,
            latency=trial.also[one.latency],
            accuracy=lowered(whole, one.penalty),
            also=also,
            configuration=one.device,
        )
        for one in config.configurations
        if one.latency in trial.also
    ]


def without_penalty(trial: Trial, config: SearchConfig) -> Estimate:
    """The accuracy as the estimator gave it."""
    if not trial.configuration:
        return trial.accuracy
    return lowered(trial.accuracy, -config.configuration(trial.configuration).penalty)


def lowered(accuracy: Estimate, penalty: float) -> Estimate:
    """The estimate with a penalty taken off."""
    if not penalty:
        return accuracy
    low, high = (None if end is None else end - penalty for end in (accuracy.low, accuracy.high))
    # Rounded, so that a penalty taken off and put back is the same number.
    value = round(accuracy.value - penalty, DECIMALS)
    return dataclasses.replace(accuracy, value=value, low=low, high=high)
