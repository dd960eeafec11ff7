"""The published networks beside a front: what they cost on its devices, their accuracy where it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hwnas.errors import MissingOpError
from hwnas.estimate import Estimate
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.budget_check import tail_shares
from hwnas.report.dimensions import Dimension, dimensions, number
from hwnas.search.run import SearchResult
from hwnas.space.ops import OpSpec, count_macs, count_params, lower, peak_activation_bytes
from hwnas.space.presets import presets

__all__ = ["Lead", "PublishedNetwork", "is_on_published_scale", "lead_over", "published_networks"]

Ops = Sequence[OpSpec]


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """One preset on the devices of a run."""

    name: str
    family: str
    latency: Estimate
    """In ms, as the first device's table predicts it."""
    accuracy: float | None
    """In the estimator's unit, comparable with the run's; None when nobody knows it on that scale."""
    params: int
    macs: int
    also: Mapping[str, Estimate]
    """What else the run bounds or minimises, by name; see `Trial.also`."""


@dataclass(frozen=True, slots=True)
class Lead:
    """How far the best network of a front is ahead of the best published one within the same limits."""

    preset: PublishedNetwork
    difference: float
    """In the estimator's unit; negative where the published network is better."""
    std: float
    """Standard deviation of the estimate of the front's network; 0 when it is not known."""

    def sentence(self, *, unit: str, how: str) -> str:
        """The lead with its uncertainty: `+1.8 points over uniform-t (...), within two deviations`."""
        points = "points" if unit == "%" else unit or "points"
        text = (
            f"{self.difference:+.2g} {points} over {self.preset.name}, the most accurate published network "
            f"within the same limits ({number(self.preset.accuracy or 0.0)} {how})"
        )
        if not self.std:
            return f"{text}; the estimator gives no deviation"
        if abs(self.difference) <= 2 * self.std:
            return f"{text}, within two deviations (±{2 * self.std:.2g}): the order is not certain"
        return f"{text}, more than two deviations (±{2 * self.std:.2g})"


def lead_over(result: SearchResult, published: Sequence[PublishedNetwork]) -> Lead | None:
    """The lead of the front's most accurate network; None where nothing published can be compared."""
    found = [one for one in dimensions(result.config) if one.limit is not None]
    known = [
        one
        for one in published
        if one.accuracy is not None
        and all(each.of(one).value <= each.limit for each in found if each.limit is not None)
    ]
    if not known or not result.front:
        return None
    preset = max(known, key=lambda one: one.accuracy or 0.0)
    best = result.front[0].accuracy
    return Lead(preset, best.value - (preset.accuracy or 0.0), best.std)


def is_on_published_scale(result: SearchResult) -> bool:
    """Whether the run's accuracies are ImageNet-1K top-1, as the papers publish it."""
    return result.config.accuracy == "published"


def published_networks(
    result: SearchResult, tables: Mapping[str, LatencyTable]
) -> tuple[PublishedNetwork, ...]:
    """Every preset of which the devices' tables can predict what the run asks, fastest first.

    None where a table is not at hand. Their accuracy is the published one if the run's estimator speaks of
    the same, else what the run itself estimated for them, if it did.
    """
    config = result.config
    found = dimensions(config)
    if any(device not in tables for device in config.digests):
        return ()
    # Their published accuracy is in floating point: of several configurations, those without a penalty.
    usual = [one.device for one in config.configurations if not one.penalty] or list(config.digests)[:1]
    energy = tables[next(iter(config.digests))].energy
    predicted = {
        one.name: energy.predict_ops
        if one.name == "energy" and energy is not None
        else _predictor(one, tables)
        for one in found
        if (one.device and one.name != "latency") or one.name in ("memory", "energy")
    }
    evaluated = {trial.id: trial.accuracy.value for trial in result.trials}
    networks = []
    for name, preset in presets().items():
        ops = lower(preset.arch)
        try:
            latency = min((tables[name].predict_ops(ops) for name in usual), key=lambda ms: ms.value)
            also = {quantity: predict(ops) for quantity, predict in predicted.items()}
        except MissingOpError:
            continue
        published = is_on_published_scale(result)
        accuracy = preset.imagenet_top1_percent if published else evaluated.get(preset.arch.id)
        networks.append(
            PublishedNetwork(name, preset.family, latency, accuracy, count_params(ops), count_macs(ops), also)
        )
    return tuple(sorted(networks, key=lambda network: network.latency.value))


def _predictor(dimension: Dimension, tables: Mapping[str, LatencyTable]) -> Callable[[Ops], Estimate]:
    """What says the dimension's number of a network, as `Trial.also` has it."""
    if not dimension.device:
        return lambda ops: Estimate(
            float(sum(op.weight_bytes() for op in ops) + peak_activation_bytes(ops)), unit="bytes"
        )
    table = tables[dimension.device]
    if not dimension.name.startswith("p95"):
        return table.predict_ops
    shares = tail_shares(table)

    def tail(ops: Ops) -> Estimate:
        latency = table.predict_ops(ops)
        late, usual = (sum(times) for times in zip(*map(shares, ops), strict=True))
        low, high = (None if end is None else end * late / usual for end in (latency.low, latency.high))
        return Estimate(latency.value * late / usual, latency.std * late / usual, low, high, "ms")

    return tail
