"""Published latencies of this folder's CSV files, beside the features of the networks they are of."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.features import FEATURE_NAMES, features
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.table_content import Coefficients
from hwnas.space.ops import lower
from hwnas.space.presets import preset, preset_names

__all__ = [
    "OUT_OF_SAMPLE",
    "SEARCHED",
    "Source",
    "coverage",
    "evidence",
    "is_near",
    "judged",
    "known_features",
    "other_sources",
    "out_of_sample",
    "read_csv",
    "unfused_bytes",
]

HERE = Path(__file__).resolve().parent
Floats = NDArray[np.float64]

LARGEST = np.array([1.3e10, 1.1e10, 1e9, 1e9, 2.1e8, 1e3])
"""Networks with more than this of a feature are far from all that is searched, and judge no table: twice the
largest network that the ten boards are fitted on (VGG, AlexNet and ViT-B at 384 pixels have more)."""
SMALLEST_MACS = 3.7e7
"""Half the MACs of the smallest published network (UniForm-t): one with fewer judges no table either. Of all
here that is BlazeFace alone, a face detector for 128 pixels."""
_FULL = 0.85
"""Share of another publication's networks that an interval of 90 % must hold."""

OUT_OF_SAMPLE = "networks of other publications, after one factor for each"
SEARCHED = ("uniform", "efficientvit", "shvit")
"""Families of the design that is searched: presets of hwnas."""

_SPELLINGS = {"MovileViT-s": "MobileViT-s"}
_PIS = {
    "rpi2b": ("Raspberry Pi 3B PLUS", "Raspberry Pi 3 Model B+"),
    "rpi3b": ("Raspberry Pi 3B PLUS", "Raspberry Pi 3 Model B+"),
    "rpi3b-plus": ("Raspberry Pi 3B PLUS", "Raspberry Pi 3 Model B+"),
    "rpi4": ("Raspberry Pi 4B", "Raspberry Pi 4 Model B"),
    "rpi5": ("Raspberry Pi 5", "Raspberry Pi 5 "),
}
"""Device -> the board's name in NetsPresso's rows and in ncnn's. Nobody else timed a 2B or a 3B: they are
judged on the 3B+, from which one factor (the clock) tells a 3B."""
_JETSONS = {
    "jetson-nano": "Jetson Nano",
    "jetson-tx2": "Jetson TX2",
    "jetson-nx": "Jetson NX",
    "jetson-xavier": "Jetson Xavier",
    "jetson-agx-orin": "Jetson AGX Orin",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Networks that another publication timed on the same board."""

    name: str
    ms: Mapping[str, float]
    """Network -> milliseconds, of those whose features are known."""


def read_csv(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file of this folder, without its comment lines."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@cache
def known_features() -> Mapping[str, tuple[str, Floats]]:
    """Network -> its family and its six features; a preset at another image side is `shvit-s4@512`."""
    found: dict[str, tuple[str, Floats]] = {}
    for file in ("networks.csv", "networks_more.csv"):
        for row in read_csv(file):
            found[row["model"]] = row["family"], np.array([float(row[name]) for name in FEATURE_NAMES])
    for row in read_csv("ncnn_networks.csv"):
        found[f"ncnn {row['model']}"] = "ncnn", np.array([float(row[name]) for name in FEATURE_NAMES])
    for name in preset_names():
        arch = preset(name)
        for side in (None, 384, 512):
            label = name if side is None else f"{name}@{side}"
            sized = arch if side is None else dataclasses.replace(arch, resolution=side)
            if side is None or name in ("efficientvit-m4", "efficientvit-m5", "shvit-s4"):
                counted = features(lower(sized))
                found[label] = name.partition("-")[0], np.array([counted[each] for each in FEATURE_NAMES])
    return found


@cache
def unfused_bytes(name: str) -> float:
    """What ReLU and the like move in a preset where each runs as a kernel of its own; NaN for others."""
    label, _, side = name.partition("@")
    if label not in preset_names():
        return math.nan
    arch = preset(label)
    sized = dataclasses.replace(arch, resolution=int(side)) if side else arch
    return float(sum(op.unfused_bytes() for op in lower(sized)))


def other_sources(device: str) -> list[Source]:
    """What other publications give for the board of an estimated device, by source."""
    if device in _JETSONS:
        return [_netspresso(_JETSONS[device], "FP16", "NetsPresso, TensorRT FP16")]
    if device in _PIS:
        farm, ncnn = _PIS[device]
        return [
            _netspresso(farm, "FP16", "NetsPresso, TFLite FP16"),
            _netspresso(farm, "INT8", "NetsPresso, TFLite INT8"),
            _ncnn(ncnn, 1),
            _ncnn(ncnn, 4),
        ]
    return []


def _netspresso(board: str, precision: str, name: str) -> Source:
    ms = {}
    for row in read_csv("netspresso_trainer.csv"):
        model = _SPELLINGS.get(row["model"], row["model"])
        if row["board"] == board and row["precision"] == precision and is_near(model):
            ms[model] = float(row["latency_ms"])
    return Source(name, ms)


def _ncnn(board: str, threads: int) -> Source:
    """The fastest of ncnn's runs: an average may hold a disturbed one."""
    ms = {}
    for row in read_csv("ncnn_boards.csv"):
        label = f"ncnn {row['model']}"
        if row["board"].startswith(board) and int(row["threads"]) == threads and is_near(label):
            ms[label] = float(row["min_ms"])
    return Source(f"ncnn, {threads} thread{'s' if threads > 1 else ''}", ms)


def is_near(name: str) -> bool:
    """Whether the network is of a size that may judge a table: see LARGEST and SMALLEST_MACS."""
    features = known_features().get(name, ("", None))[1]
    return features is not None and bool((features <= LARGEST).all() and features[:3].sum() >= SMALLEST_MACS)


def coverage(factor: float, networks: Sequence[HeldOutNetwork]) -> float:
    """The share of networks that are within this factor of what is predicted for them."""
    return float(np.mean([1 / factor <= one.measured_ms / one.predicted_ms <= factor for one in networks]))


def evidence(left_out: HeldOut, others: Sequence[HeldOutNetwork]) -> HeldOut:
    """What the intervals of a table come from: networks left out of the fit, and others where these miss.

    Where 90 % intervals from the networks left out hold fewer than 85 % of the other publications'
    networks, these are added; where that is not enough either, they alone make the intervals.
    """
    if not others or coverage(left_out.factor(), others) >= _FULL:
        return left_out
    both = HeldOut((*left_out.networks, *others), f"{left_out.method}, and {OUT_OF_SAMPLE}")
    return both if coverage(both.factor(), others) >= _FULL else HeldOut(tuple(others), OUT_OF_SAMPLE)


def out_of_sample(
    heldout: HeldOut, sources: Sequence[tuple[Source, tuple[HeldOutNetwork, ...]]]
) -> dict[str, dict[str, float]]:
    """By source: networks, median error, and the share of them in the table's 90 % interval.

    Where the interval holds fewer than 85 % of a source's networks, `own_interval_factor` is what the
    interval of that source's runtime and precision is, from its own networks.
    """
    facts: dict[str, dict[str, float]] = {}
    for source, networks in sources:
        own = HeldOut(networks)
        held = coverage(heldout.factor(), networks)
        facts[source.name] = {
            "networks": len(networks),
            "median_percent": round(float(own.median_percent or 0), 1),
            "in_90_percent_interval_percent": round(100 * held, 1),
        }
        if held < _FULL:
            facts[source.name]["own_interval_factor"] = float(f"{own.factor():.3g}")
    return facts


def judged(coefficients: Coefficients, source: Source) -> tuple[HeldOutNetwork, ...]:
    """Each network of the source and what the table predicts, after one factor for the whole source.

    The factor (the median ratio) is what another precision, runtime or number of threads costs.
    """
    known = known_features()
    predicted = {
        name: float(
            np.array([*known[name][1], unfused_bytes(name)])[: len(coefficients.values)]
            @ np.asarray(coefficients.values)
        )
        + coefficients.offset_ms
        for name in source.ms
    }
    factor = float(np.exp(np.median([np.log(ms / predicted[name]) for name, ms in source.ms.items()])))
    return tuple(
        HeldOutNetwork(f"{name} ({source.name})", ms, float(f"{factor * predicted[name]:.4g}"))
        for name, ms in source.ms.items()
    )
