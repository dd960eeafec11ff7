"""How far the front of a search is from the true one.

    python benchmarks/search_exact.py --json benchmarks/results/search_exact.json

Small spaces are enumerated: every network within the budget is evaluated, and the front of all of them is
the true one. The same space is then searched as a large one is, with several seeds: the share of the true
front that the record holds, and its hypervolume over the true one, both in latency and lower bound of the
accuracy. On the default space, which cannot be enumerated, the same search with `--times` (100) times as
many evaluations, in a population 5 times as large, stands in for the truth.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from hwnas.errors import InfeasibleError
from hwnas.search import SearchResult, evolution, pareto, search
from hwnas.space.search_space import SearchSpace

CASES = "rpi4:20,rpi4:40,cpu-x86:5"
DIGITS = 8
TIMES_POPULATION = 5


def small_spaces() -> tuple[SearchSpace, ...]:
    """Parts of the default space of 10^5 to 10^6 networks: many attentions, many depths, some of both."""
    plain = {"ffn_ratio": (2,), "layout": ("dw-attention-ffn",)}
    return (
        _part(
            "attentions",
            {"depth": (1,), "ffn_ratio": (2,), "width": 2},
            {"depth": (2,), **plain, "width": 2},
            {"depth": (1,), **plain, "width": 1},
        ),
        _part("widths-and-depths", *3 * [{"attention": ("single-head",), **plain}]),
        _part(
            "some-of-both",
            *3 * [{"attention": ("none", "single-head", "reuse"), "depth": (1, 2), "width": 4, **plain}],
        ),
    )


def _part(name: str, *choices: dict[str, Any]) -> SearchSpace:
    """The default space with fewer choices: the first so many widths, the first option of each attention."""
    default = SearchSpace.default()
    stages = []
    for stage, wanted in zip(default.stages, choices, strict=True):
        given = dict(wanted)
        if "width" in given:
            given["width"] = stage.width[: given["width"]]
        if "attention" in given:
            named = [(str(getattr(one.attention, "type", "none")), one) for one in stage.attention]
            given["attention"] = tuple(
                next(option for name, option in named if name == kind) for kind in given["attention"]
            )
        stages.append(dataclasses.replace(stage, **given))
    return dataclasses.replace(default, name=name, stages=tuple(stages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=CASES, help=f"devices and budgets in ms (default: {CASES})")
    parser.add_argument("--seeds", type=int, default=5, help="of each search; 0: leave the small spaces out")
    parser.add_argument("--times", type=int, default=100, help="as many evaluations; 0: leave that out")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    split = [text.split(":") for text in asked.cases.split(",")]
    cases = [(device, float(ms)) for device, ms in split]
    rows = []
    for row in itertools.chain(enumerated(cases, asked.seeds), many_times(cases, asked.times)):
        if not rows or rows[-1].keys() != row.keys():
            print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
        rows.append(row)
    if asked.json:
        asked.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def enumerated(cases: Sequence[tuple[str, float]], seeds: int) -> Iterator[dict[str, Any]]:
    """A row for each small space and case."""
    for space in small_spaces() if seeds else ():
        for device, budget_ms in cases:
            began = time.monotonic()
            try:
                with mock.patch.object(evolution, "ENUMERABLE", space.size):
                    truth = search(space, device=device, budget_ms=budget_ms)
            except InfeasibleError:
                continue  # the budget is below the fastest network of this space
            seconds = time.monotonic() - began
            assert truth.is_exact
            true = front(truth)
            with mock.patch.object(evolution, "ENUMERABLE", 0):
                found = [
                    search(space, device=device, budget_ms=budget_ms, seed=seed) for seed in range(seeds)
                ]
            fronts = [front(one) for one in found]
            shares = [len(true & one) / len(true) for one in fronts]
            ratios = [volume(one, true) / volume(true, true) for one in fronts]
            yield {
                "space": space.name,
                "networks": space.size,
                "device": device,
                "budget_ms": budget_ms,
                "within_budget": truth.evaluated,
                "enumeration_seconds": round(seconds, 2),
                "true_front": len(true),
                "search_evaluated": round(float(np.mean([one.evaluated for one in found]))),
                "seeds": seeds,
                "share_found_mean": round(float(np.mean(shares)), 4),
                "share_found_least": round(min(shares), 4),
                "hypervolume_ratio_mean": round(float(np.mean(ratios)), 6),
                "hypervolume_ratio_least": round(min(ratios), 6),
            }


def many_times(cases: Sequence[tuple[str, float]], times: int) -> Iterator[dict[str, Any]]:
    """A row for each case on the default space."""
    for device, budget_ms in cases if times else ():
        usual = search(device=device, budget_ms=budget_ms)
        wanted = times * usual.evaluated
        done = 0

        def enough() -> bool:
            return done >= wanted  # noqa: B023

        def count(evaluated: int, _: int) -> None:
            nonlocal done
            done = evaluated

        larger = {
            "POPULATION": TIMES_POPULATION * evolution.POPULATION,
            "CHILDREN": TIMES_POPULATION * evolution.CHILDREN,
            "GROWTH": -1.0,  # it never converges
            "MOST_EPOCHS": 10**9,
        }
        began = time.monotonic()
        with mock.patch.multiple(evolution, **larger):
            more = search(device=device, budget_ms=budget_ms, seed=1, progress=count, stop=enough)
        both = front(usual) | front(more)
        yield {
            "space": usual.space.name,
            "device": device,
            "budget_ms": budget_ms,
            "search_evaluated": usual.evaluated,
            "reference_evaluated": more.evaluated,
            "reference_seconds": round(time.monotonic() - began, 1),
            "hypervolume_ratio": round(volume(front(usual), both) / volume(front(more), both), 6),
        }


def front(result: SearchResult) -> frozenset[tuple[float, float]]:
    """Latency and negated lower bound of the recorded networks that no other beats."""
    points = [
        (round(one.latency.value, DIGITS), round(-one.accuracy.lower_bound(), DIGITS))
        for one in result.trials
    ]
    return frozenset(points[row] for row in pareto.front(points))


def volume(points: frozenset[tuple[float, float]], true: frozenset[tuple[float, float]]) -> float:
    """Hypervolume from the worst latency and accuracy of the true front."""
    slowest, worst = np.max(np.array(sorted(true)), axis=0)
    return pareto.hypervolume(sorted(points), [slowest * 1.001, worst + 0.001])


if __name__ == "__main__":
    main()
