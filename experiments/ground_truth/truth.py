"""What the trainings of results.jsonl came to, network by network: what estimators are judged against."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import table


def by_latency(subject: networks.Subject) -> str:
    """The bin of predicted latency that a network is in."""
    return f"from {max((edge for edge in networks.EDGES_MS if edge <= subject.latency_ms), default=0):g} ms"


def by_first_width(subject: networks.Subject) -> str:
    """The width of a network's first stage."""
    return f"{subject.arch.stages[0].width} wide"


BINS = {"latency": by_latency, "first-width": by_first_width}


@dataclass(frozen=True, slots=True)
class Truth:
    """The networks of the ground truth with what their trainings came to."""

    subjects: tuple[networks.Subject, ...]
    top1_percent: tuple[tuple[float, ...], ...]
    """Of each network, one for each seed."""
    cpu_seconds: float
    """That one training took, on average."""
    by_epoch_percent: tuple[tuple[float, ...], ...]
    """Of each network, its accuracy after each epoch: the mean over the seeds."""
    loss_by_epoch: tuple[tuple[float, ...], ...]
    """Of each network, its training loss during each epoch, the same."""
    bin_of: Callable[[networks.Subject], str] = by_latency
    """Among which others a network is ordered, besides all."""

    @property
    def means_percent(self) -> list[float]:
        """Mean over the seeds."""
        return [sum(one) / len(one) for one in self.top1_percent]

    @property
    def bins(self) -> list[str]:
        """The bin of each network."""
        return [self.bin_of(subject) for subject in self.subjects]


def truth(protocol: str, file: Path = table.FILE) -> Truth:
    """What is in the table so far of the networks of networks.jsonl, in their order."""
    rows = table.rows(protocol, file)
    by_id: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    trained = tuple(subject for subject in networks.subjects() if subject.arch.id in by_id)
    of_each = [by_id[subject.arch.id] for subject in trained]
    seconds = [row["cpu_seconds"] for row in rows]
    return Truth(
        trained,
        tuple(tuple(row["top1_percent"] for row in seeds) for seeds in of_each),
        sum(seconds) / max(1, len(seconds)),
        tuple(_mean_curve(seeds, "top1_by_epoch_percent") for seeds in of_each),
        tuple(_mean_curve(seeds, "loss_by_epoch") for seeds in of_each),
    )


def _mean_curve(seeds: Sequence[dict[str, Any]], name: str) -> tuple[float, ...]:
    return tuple(map(statistics.fmean, zip(*(row[name] for row in seeds), strict=True)))
