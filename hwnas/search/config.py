"""SearchConfig: what a search is asked for. Two runs may only be joined when theirs are equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwnas.errors import FileFormatError, UsageError
from hwnas.targets import Target

__all__ = ["Configuration", "SearchConfig", "TableVersion", "Target"]


@dataclass(frozen=True, slots=True)
class TableVersion:
    """Which latency table a run used for a device."""

    digest: str
    """`LatencyTable.digest`: SHA-256 of the table's content."""
    provenance: str
    """`measured`, `transferred` or `estimated`: what its latencies are."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run networks on a board: a latency table of it, and what it costs in accuracy."""

    device: str
    """Name of the latency table, or its file."""
    digest: str
    """`LatencyTable.digest`."""
    provenance: str
    runtime: str
    precision: str
    threads: int
    penalty: float = 0.0
    """What is taken off the estimated accuracy, in the estimator's unit."""
    penalty_source: str = ""
    """Where the penalty is from; empty without one."""

    def __str__(self) -> str:
        """`cpu-x86-int8 (onnxruntime, int8, 1 thread)`."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device} ({self.runtime}, {self.precision}, {threads})"

    @property
    def latency(self) -> str:
        """The name of its latency in `Trial.also`."""
        return f"latency {self.device}"


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Everything that decides which candidates a search proposes and what they are worth."""

    targets: tuple[Target, ...]
    """The devices, each with its budget; a network must stay within all of them."""
    tables: tuple[TableVersion, ...]
    """The latency table of each target, in the same order."""
    confidence: float | None
    """With which probability a latency must be within its budget; None: its value must be."""
    accuracy: str
    """Name of the accuracy estimator."""
    accuracy_unit: str
    sampler: str
    engine: str
    seed: int
    space: dict[str, Any]
    """The whole search space, as its file holds it."""
    budget_on: str = "p50"
    """What the budgets apply to: the latency, or `p95`, its tail."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Upper limits of `params`, `macs`, `memory` (bytes) and `energy` (mJ, on the first device)."""
    objectives: tuple[str, ...] = ()
    """What is minimised besides latency, of `params`, `macs`, `memory` and `energy`."""
    configurations: tuple[Configuration, ...] = ()
    """The tables of the one target's board, of which each network takes one; empty for a single table."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices, in the order in which they were given."""
        return tuple(target.device for target in self.targets)

    @property
    def latencies(self) -> tuple[str, ...]:
        """The name of each target's latency (or its tail), as `Trial.number` takes it."""
        noun = "p95" if self.budget_on == "p95" else "latency"
        return (noun, *(f"{noun} {target.device}" for target in self.targets[1:]))

    @property
    def minimised(self) -> tuple[str, ...]:
        """Names of the quantities that the search minimises, as `Trial.number` takes them."""
        return (*self.latencies, *self.objectives)

    @property
    def within(self) -> str:
        """The limits in words: `20 ms on rpi4, 8 ms on jetson-nano, params 6e+06`."""
        tail = " (p95)" if self.budget_on == "p95" else ""
        return ", ".join(
            [str(target) + tail for target in self.targets]
            + [f"{name} {limit:g}" for name, limit in self.limits.items()]
        )

    @property
    def provenance(self) -> str:
        """What the latencies are: one word, or one for each target where they differ."""
        return ", ".join(dict.fromkeys(table.provenance for table in self.tables))

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each latency table."""
        if self.configurations:
            return {one.device: one.digest for one in self.configurations}
        return {target.device: table.digest for target, table in zip(self.targets, self.tables, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = {
            spec.name: getattr(self, spec.name)
            for spec in dataclasses.fields(self)
            if spec.name not in ("targets", "tables", "configurations")
        }
        targets = [
            {"device": target.device, "budget_ms": target.budget_ms} | dataclasses.asdict(table)
            for target, table in zip(self.targets, self.tables, strict=True)
        ]
        several = [dataclasses.asdict(one) for one in self.configurations]
        return {
            "targets": targets,
            **data,
            "limits": dict(self.limits),
            "objectives": list(self.objectives),
            **({"configurations": several} if several else {}),
        }

    def configuration(self, device: str) -> Configuration:
        """The configuration of that table; raises KeyError for another one."""
        return {one.device: one for one in self.configurations}[device]

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> SearchConfig:
        """The config that `to_dict` wrote, in any version; raises FileFormatError naming `source`."""
        if isinstance(data, dict) and "targets" not in data:
            data = _with_targets(data, source)
        needed = [
            spec.name
            for spec in dataclasses.fields(cls)
            if spec.default is dataclasses.MISSING
            and spec.default_factory is dataclasses.MISSING
            and spec.name != "tables"
        ]
        missing = [name for name in needed if not isinstance(data, dict) or name not in data]
        if missing:
            raise FileFormatError(f"{source}: missing {', '.join(missing)}")
        given = {spec.name: data[spec.name] for spec in dataclasses.fields(cls) if spec.name in data}
        try:
            given["targets"] = tuple(
                Target(str(one["device"]), float(one["budget_ms"])) for one in data["targets"]
            )
            given["tables"] = tuple(
                TableVersion(str(one["digest"]), str(one["provenance"])) for one in data["targets"]
            )
            if not given["targets"]:
                raise ValueError("no target")
            given["limits"] = {str(name): float(limit) for name, limit in data.get("limits", {}).items()}
            given["objectives"] = tuple(map(str, data.get("objectives", ())))
            given["configurations"] = tuple(Configuration(**one) for one in data.get("configurations", ()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{source}: not the config of a search: {error!r}") from None
        return cls(**given)

    def require_equal(self, recorded: SearchConfig, *, run: str) -> None:
        """Raises UsageError that shows each difference between this config and the run's."""
        mine, theirs = _flat(self), _flat(recorded)
        changed = [
            f"{name} was {_shown(theirs.get(name))}, now {_shown(mine.get(name))}"
            for name in dict.fromkeys((*theirs, *mine))
            if mine.get(name) != theirs.get(name)
        ]
        if changed:
            raise UsageError(
                f"the options differ from those of the run {run}: "
                f"{'; '.join(changed)}. Leave these options out to resume it, start a new run, or start one "
                f"from its candidates (--from {run})"
            )


def _with_targets(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The config of a run of schema 1 or 2, which had a first device and `others` besides."""
    first = ("device", "budget_ms", "table_digest", "provenance")
    if missing := [name for name in first if name not in data]:
        raise FileFormatError(f"{source}: missing {', '.join(missing)}")
    others = data.get("others", [])
    if not isinstance(others, list) or not all(isinstance(one, dict) for one in others):
        raise FileFormatError(f"{source}: not the config of a search: others must be a list of mappings")
    targets = [
        {**one, "digest": one.get("table_digest")} for one in ({name: data[name] for name in first}, *others)
    ]
    return {name: value for name, value in data.items() if name not in (*first, "others")} | {
        "targets": targets
    }


def _flat(config: SearchConfig) -> dict[str, Any]:
    """The config by option, each target's fields under its place."""
    data = {key: value for key, value in config.to_dict().items() if key != "targets"}
    several = len(config.targets) > 1
    for place, (target, table) in enumerate(zip(config.targets, config.tables, strict=True), start=1):
        end = f" {place}" if several else ""
        data[f"device{end}"] = target.device
        data[f"budget_ms{end}"] = target.budget_ms
        data[f"table_digest{end}"] = table.digest
        data[f"provenance{end}"] = table.provenance
    return data


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
