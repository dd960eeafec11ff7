"""The published networks beside a front: their latency on its device, their accuracy where it is known."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.errors import MissingOpError
from hwnas.latency import LatencyTable
from hwnas.predictors.estimate import Estimate
from hwnas.search.run import SearchResult
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.presets import presets

__all__ = ["PublishedNetwork", "is_on_published_scale", "published_networks"]


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """One preset on the device of a run."""

    name: str
    family: str
    latency: Estimate
    """In ms, as the device's table predicts it."""
    accuracy: float | None
    """In the estimator's unit, comparable with the run's; None when nobody knows it on that scale."""
    params: int
    macs: int


def is_on_published_scale(result: SearchResult) -> bool:
    """Whether the run's accuracies are ImageNet-1K top-1, as the papers publish it."""
    return result.question.accuracy == "published"


def published_networks(result: SearchResult, table: LatencyTable | None) -> tuple[PublishedNetwork, ...]:
    """Every preset whose latency the table can predict, fastest first; none without a table.

    Their accuracy is the published one if the run's estimator speaks of the same, else what the run
    itself estimated for them, if it did.
    """
    if table is None:
        return ()
    evaluated = {trial.id: trial.accuracy.value for trial in result.trials}
    found = []
    for name, preset in presets().items():
        ops = lower(preset.arch)
        try:
            latency = table.predict_ops(ops)
        except MissingOpError:
            continue
        published = is_on_published_scale(result)
        accuracy = preset.imagenet_top1_percent if published else evaluated.get(preset.arch.id)
        found.append(
            PublishedNetwork(name, preset.family, latency, accuracy, count_params(ops), count_macs(ops))
        )
    return tuple(sorted(found, key=lambda network: network.latency.value))
