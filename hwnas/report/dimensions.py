"""Dimensions: what a search bounds or minimises besides accuracy, and how a report writes numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hwnas.estimate import Estimate
from hwnas.search.config import SearchConfig
from hwnas.search.run import SearchResult

__all__ = [
    "Dimension",
    "Network",
    "accuracy_noun",
    "dimensions",
    "interval",
    "number",
    "percent",
    "provenances",
    "shown",
    "spread_over",
    "with_deviation",
    "within",
]

SIZES = {
    "params": ("parameters", "M", 1e6),
    "macs": ("MACs", "M", 1e6),
    "memory": ("memory", "MB", 1e6),
    "energy": ("energy", "mJ", 1.0),
}
"""Noun, unit, and how much of what is recorded makes one of it."""


class Network(Protocol):
    """What numbers are read from: a trial, a candidate, a published network."""

    @property
    def latency(self) -> Estimate: ...

    @property
    def params(self) -> int: ...

    @property
    def macs(self) -> int: ...

    @property
    def also(self) -> Mapping[str, Estimate]: ...


@dataclass(frozen=True, slots=True)
class Dimension:
    """One number of each network; smaller is better."""

    name: str
    """As `Trial.number` takes it: `latency`, `p95 jetson-nano`, `memory`."""
    noun: str
    """What it is, as `latency`."""
    unit: str
    """`ms`, `M` (million), `MB`."""
    per_unit: float = 1.0
    """How much of what is recorded makes one of the unit."""
    limit: float | None = None
    """The most that a network may have, in the unit; None: any."""
    minimised: bool = True
    device: str = ""
    """Whose latency it is; empty for what the architecture alone says."""
    provenance: str = ""
    """`measured`, `transferred` or `estimated`: what that device's latencies are; empty without one."""
    among_devices: bool = False
    """Whether there are other devices, so that this one must be named."""

    @property
    def place(self) -> str:
        """` on rpi4` where there are several devices, else nothing."""
        return f" on {self.device}" if self.device and self.among_devices else ""

    @property
    def title(self) -> str:
        """For a chart's axis: `latency on rpi4, estimated (ms)`."""
        return f"{self.noun}{self.place}{self._provenance} ({self.unit})"

    @property
    def column(self) -> str:
        """For a column of a table: `latency ms on rpi4, estimated`."""
        return f"{self.noun} {self.unit}{self.place}{self._provenance}"

    @property
    def bound(self) -> str:
        """The limit in words: `budget 20 ms`, `limit 6 M`; empty without one."""
        if self.limit is None:
            return ""
        return f"{'budget' if self.device else 'limit'} {self.limit:g} {self.unit}"

    def of(self, network: Network) -> Estimate:
        """The network's number in the unit; raises KeyError when nobody recorded it."""
        if self.name == "latency":
            return network.latency
        if self.name in ("params", "macs"):
            return Estimate(getattr(network, self.name) / self.per_unit, unit=self.unit)
        known = network.also[self.name]
        if self.per_unit == 1:
            return known
        low, high = (None if end is None else end / self.per_unit for end in (known.low, known.high))
        return Estimate(known.value / self.per_unit, known.std / self.per_unit, low, high, self.unit)

    def said(self, value: float, *, provenance: str | None = None) -> str:
        """The number in words: `19.44 ms estimated`, `7.310 ms on jetson-nano estimated`, `5.301 M MACs`."""
        how = self.provenance if provenance is None else provenance
        if not self.device:
            return f"{number(value)} {self.unit} {self.noun}"
        noun = "" if self.noun == "latency" else f"{self.noun} "
        return f"{noun}{number(value)} {self.unit}{self.place} {how}"

    @property
    def _provenance(self) -> str:
        return f", {self.provenance}" if self.provenance else ""


def dimensions(config: SearchConfig) -> tuple[Dimension, ...]:
    """Every dimension of a search: minimised ones first, as `SearchConfig.minimised` has them, then the rest.

    Where the budget is on the tail of the latency, the latency itself is the last of them.
    """
    tail = config.budget_on == "p95"
    timed = [
        Dimension(
            name,
            "p95 latency" if tail else "latency",
            "ms",
            limit=target.budget_ms,
            device=target.device,
            provenance=table.provenance,
            among_devices=len(config.targets) > 1,
        )
        for name, target, table in zip(config.latencies, config.targets, config.tables, strict=True)
    ]
    sized = [
        _size(name, config.limits.get(name), minimised=name in config.objectives)
        for name in dict.fromkeys((*config.objectives, *config.limits))
    ]
    besides = [replace(timed[0], name="latency", noun="latency", limit=None, minimised=False)] if tail else []
    return (*timed, *sized, *besides)


def accuracy_noun(config: SearchConfig) -> str:
    """`ImageNet-1K top-1 accuracy`, or `accuracy` where only the estimator knows of what."""
    return "ImageNet-1K top-1 accuracy" if config.accuracy == "published" else "accuracy"


def shown(result: SearchResult, candidate: Network, dimension: Dimension) -> Estimate:
    """The number that the page goes by: the measured latency, once the front is verified."""
    measured: Estimate | None = getattr(candidate, "measured", None)
    if dimension.name == "latency" and result.is_verified and measured is not None:
        return measured
    return dimension.of(candidate)


def within(config: SearchConfig) -> str:
    """The bounds in words: `20 ms on rpi4, 8 ms on jetson-nano, 6 M parameters`."""
    texts = []
    for one in dimensions(config):
        if one.limit is not None:
            device = one.device.replace(",", " or ")
            what = f"{'(p95) ' if one.noun != 'latency' else ''}on {device}" if device else one.noun
            texts.append(f"{one.limit:g} {one.unit} {what}")
    return ", ".join(texts)


def _size(name: str, limit: float | None, *, minimised: bool) -> Dimension:
    noun, unit, per_unit = SIZES.get(name, (name, "", 1.0))
    return Dimension(
        name,
        noun,
        unit,
        per_unit=per_unit,
        limit=None if limit is None else limit / per_unit,
        minimised=minimised,
    )


def provenances(found: Sequence[Dimension]) -> str:
    """What the latencies are: `estimated`, or `estimated (rpi4), measured (cpu-x86)` where they differ."""
    by_device = {one.device: one.provenance for one in found if one.device}
    if len(set(by_device.values())) == 1:
        return next(iter(by_device.values()))
    return ", ".join(f"{provenance} ({device})" for device, provenance in by_device.items())


def number(value: float) -> str:
    """Four significant digits, zeros at the end kept: 20.00, 1235."""
    return f"{value:#.4g}".rstrip(".")


def with_deviation(estimate: Estimate) -> str:
    """The value, and its standard deviation where it has one: 71.30 ± 0.52."""
    return number(estimate.value) + (f" ± {estimate.std:.2g}" if estimate.std else "")


def interval(estimate: Estimate) -> str:
    """From low to high; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def percent(share: float) -> str:
    """A share of 1 as a whole percentage: 35 %."""
    return f"{100 * share:.0f} %"


def spread_over(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
