"""What the tests of the search share: a small space, a cheap board, estimators to read at a glance."""

from __future__ import annotations

import fcntl
import itertools
import math
import os
import signal
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hwnas.estimate import Estimate
from hwnas.predictors.latency import Coefficients, DeviceProfile, HeldOut, HeldOutNetwork, LatencyTable
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import count_macs, lower
from hwnas.space.search_space import SearchSpace, Vector

SMALL = {
    "format": 1,
    "name": "small",
    "resolution": [64],
    "stem_stride": [8, 16],
    "classes": 10,
    "attention": [
        "none",
        {"type": "reuse", "heads": 2, "kernels": [3, 5]},
        {"type": "single-head", "ratio": 4},
    ],
    "stages": [
        {"width": [32, 48, 64], "depth": [1, 2], "layout": ["dw-attention-ffn"]},
        {"width": [64, 96], "depth": [1, 2], "ffn_ratio": [2, 3], "layout": ["sandwich", "dw-attention-ffn"]},
    ],
}


@cache
def small_space() -> SearchSpace:
    """A few thousand networks: small enough to list them all."""
    return SearchSpace.from_dict(SMALL)


@cache
def all_vectors() -> tuple[Vector, ...]:
    """Every network of the small space: what all vectors within range stand for."""
    space = small_space()
    every = itertools.product(*(range(len(decision.choices)) for decision in space.decisions))
    return tuple(dict.fromkeys(space.repair(vector) for vector in every))


def table(name: str = "toy") -> LatencyTable:
    """A board that takes 1 ms for 10 million MACs of any kind and 0.01 ms a node, within 10 %."""
    return LatencyTable(
        name=name,
        profile=DeviceProfile(board="Toy", runtime="none"),
        provenance="estimated",
        coefficients=Coefficients((1e-7, 1e-7, 1e-7, 0.0, 0.0, 0.01)),
        heldout=HeldOut(
            (HeldOutNetwork("a", 10.0, 11.0), HeldOutNetwork("b", 11.0, 10.0)), method="held-out networks"
        ),
    )


def by_size(arch: ArchSpec) -> float:
    """More MACs are better, and attention in the last stage helps; the id breaks ties."""
    macs = count_macs(lower(arch))
    attending = sum(block is not None for block in arch.stages[-1].blocks)
    return 40 + 6 * math.log(macs / 1e6) + attending + int(arch.id, 16) % 97 / 1000


def cheap_by_size(arch: ArchSpec) -> float:
    """As `by_size`, and says that it costs nothing."""
    return by_size(arch)


cheap_by_size.cheap = True  # type: ignore[attr-defined]


def less_sure_when_large(arch: ArchSpec) -> Estimate:
    """As `by_size`, with a standard deviation that grows faster than the gain."""
    value = by_size(arch)
    return Estimate(value, std=0.1 + 0.2 * max(0.0, value - 45) ** 2, unit="%")


def slow(arch: ArchSpec) -> float:
    """As `by_size`, after 2 ms; counts its calls in the file that $EVALUATIONS names."""
    time.sleep(0.002)
    if counted := os.environ.get("EVALUATIONS"):
        with Path(counted).open("a") as file:
            file.write(f"{arch.id}\n")
    return by_size(arch)


# --- estimators for several workers: each notes what it was asked, and by which process it was answered


def noted(arch: ArchSpec) -> int:
    """Adds a line to the file that $EVALUATIONS names; which one it is, 1 for the first."""
    with Path(os.environ["EVALUATIONS"]).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # another process's line would be counted, too
        file.write(f"{arch.id} {os.getpid()}\n")
        file.seek(0)
        return file.read().count("\n")


def uneven(arch: ArchSpec) -> float:
    """As `by_size`, after 1 to 30 ms, by the network."""
    noted(arch)
    time.sleep(0.001 * (1 + int(arch.id, 16) % 30))
    return by_size(arch)


def dies_once(arch: ArchSpec) -> float:
    """As `uneven`, but its process is killed at the tenth network, once."""
    if noted(arch) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_size(arch)


def dies_at_tenth(arch: ArchSpec) -> float:
    """Its process is killed at the tenth network, whoever is asked for it."""
    noted(arch)
    lines = Path(os.environ["EVALUATIONS"]).read_text().splitlines()
    if list(dict.fromkeys(line.split()[0] for line in lines)).index(arch.id) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_size(arch)


def raises_at_tenth(arch: ArchSpec) -> float:
    """Fails at the tenth network."""
    if noted(arch) == 10:
        raise ValueError("no such weights")
    return by_size(arch)


def stuck(arch: ArchSpec) -> float:
    """Takes a minute."""
    noted(arch)
    time.sleep(60)
    return by_size(arch)


def problem(budget_ms: float = 1.0, confidence: float | None = None) -> Problem:
    """The small space on the toy board."""
    from hwnas.predictors.accuracy import load_accuracy

    return Problem.on_device(
        small_space(), table(), load_accuracy(by_size), budget_ms=budget_ms, confidence=confidence
    )


def trial(latency_ms: float, accuracy: float, *, std: float = 0.0, name: str = "", params: int = 1) -> Trial:
    """A trial of no network, with the numbers that matter to a front."""
    return Trial(
        id=name or f"{latency_ms}-{accuracy}-{std}",
        vector=(0,),
        latency=Estimate(latency_ms, unit="ms"),
        accuracy=Estimate(accuracy, std=std, unit="%"),
        params=params,
        macs=1,
    )


def evaluated(problem: Problem, vector: Vector) -> Trial:
    """The trial of one network, its accuracy asked of the problem's estimator."""
    arch = problem.space.decode(vector)
    return problem.evaluated([vector], [problem.accuracy.predict(arch)])[0]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere larger than `b` and somewhere smaller: the definition, for comparison."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def of_schema_1(header: dict[str, Any]) -> dict[str, Any]:
    """The header of a run (`run.yaml`) for one device as the first version of hwnas wrote it."""
    config = dict(header["config"])
    [target] = config.pop("targets")
    for name in ("budget_on", "limits", "objectives"):
        del config[name]
    first = {
        "device": target["device"],
        "budget_ms": target["budget_ms"],
        "table_digest": target["digest"],
        "provenance": target["provenance"],
    }
    kept = {name: header[name] for name in ("hwnas", "versions", "started", "trials")}
    return {"schema": 1, **kept, "question": first | config}


def latency_ms(vector: Vector) -> float:
    """What the toy board predicts for a network of the small space."""
    return table().predict(small_space().decode(vector)).value
