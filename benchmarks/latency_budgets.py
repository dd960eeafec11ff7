"""Whether networks returned by `search --confidence 0.9` run within the budget when measured.

    python benchmarks/latency_budgets.py TABLE [--budgets MS MS MS] [--json FILE]

Three searches, by default with the budgets that uniform-s, uniform-m and uniform-l are predicted to
need. Of each front 10 networks are timed here, spread evenly from the fastest to the slowest, and
besides the 10 that are predicted closest to the budget: the harder question. A network holds when its
median is within the budget, at the reference network's middle speed and by the clock alone. Run it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import latency_output as output
import numpy as np
from latency_truth import Models, profile_here

from hwnas.errors import UsageError
from hwnas.predictors.latency import LatencyTable
from hwnas.search import Candidate, search
from hwnas.space import ArchSpec, preset

BUDGETS_OF = ("uniform-s", "uniform-m", "uniform-l")
SPREAD, CLOSEST = "spread over the front", "closest to the budget"


def spread(predicted_ms: Sequence[float], count: int) -> list[int]:
    """Which `count` networks lie evenly from the fastest to the slowest, by rank; all if there are fewer."""
    order = np.argsort(predicted_ms, kind="stable")
    if len(order) <= count:
        return [int(index) for index in order]
    return [int(order[round(place)]) for place in np.linspace(0, len(order) - 1, count)]


def closest(predicted_ms: Sequence[float], count: int) -> list[int]:
    """Which `count` networks are the slowest."""
    return [int(index) for index in np.argsort(predicted_ms, kind="stable")[::-1][:count]]


def held(rows: Sequence[dict[str, Any]], choice: str, field: str) -> dict[str, Any]:
    """How many networks of a choice are within their budgets, by one of their milliseconds."""
    own = [row for row in rows if choice in row["chosen"]]
    over = [100 * (row[field] / row["budget_ms"] - 1) for row in own]
    return {
        "chosen": choice,
        "by": field,
        "networks": len(own),
        "within": sum(percent <= 0 for percent in over),
        "furthest_over_percent": max([0.0, *over]),
    }


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("table", help="a device's name, or a table's file; measured on this machine")
    parser.add_argument("--budgets", type=float, nargs="+", metavar="MS")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--networks", type=int, default=10, help="timed of each budget and choice")
    parser.add_argument("--trials", type=int, default=2000, help="candidates of a search")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes, each times everything")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table = LatencyTable.load(options.table)
    profile, _ = profile_here(table)
    budgets = options.budgets or [table.predict(preset(name)).value for name in BUDGETS_OF]
    rows: list[dict[str, Any]] = []
    archs: dict[str, ArchSpec] = {}
    for budget_ms in budgets:
        output.say(f"searching within {budget_ms:.3g} ms")
        front: list[Candidate] = list(
            search(
                device=table,
                budget_ms=budget_ms,
                confidence=options.confidence,
                trials=options.trials,
                seed=options.seed,
            ).front
        )
        if not front:
            raise UsageError(f"nothing fits {budget_ms:g} ms on '{table.name}': give larger --budgets")
        predicted_ms = [candidate.latency.value for candidate in front]
        choices = {
            SPREAD: spread(predicted_ms, options.networks),
            CLOSEST: closest(predicted_ms, options.networks),
        }
        for index in sorted({index for indexes in choices.values() for index in indexes}):
            label = f"{budget_ms:.4g} ms: {front[index].id}"
            archs[label] = front[index].arch
            rows.append(
                {
                    "label": label,
                    "budget_ms": budget_ms,
                    "predicted_ms": predicted_ms[index],
                    "chosen": [name for name, indexes in choices.items() if index in indexes],
                }
            )
    with Models(archs, profile, report=output.say) as models:
        measured = models.measure(seed=f"{options.seed}/budgets", rounds=options.rounds)
    for row in rows:
        row["measured_ms"] = measured[row["label"]].ms
        row["clock_ms"] = measured[row["label"]].raw_ms
    summary = [
        held(rows, choice, field) for choice in (SPREAD, CLOSEST) for field in ("measured_ms", "clock_ms")
    ]
    document = {
        "table": table.name,
        "confidence": options.confidence,
        "budgets_ms": budgets,
        "trials": options.trials,
        "rounds": options.rounds,
        "summary": summary,
        "networks": rows,
    }
    title = f"{table.name}: searches with confidence {options.confidence} at {len(budgets)} budgets, measured"
    words = {"measured_ms": "beside the reference network", "clock_ms": "by the clock alone"}
    grids = [
        output.grid(
            title,
            ("networks", "timed", "number", "within the budget", "furthest over %"),
            [
                (
                    item["chosen"],
                    words[item["by"]],
                    item["networks"],
                    item["within"],
                    item["furthest_over_percent"],
                )
                for item in summary
            ],
        ),
        output.grid(
            "each network",
            ("budget: network", "predicted ms", "measured ms", "clock ms"),
            [(row["label"], row["predicted_ms"], row["measured_ms"], row["clock_ms"]) for row in rows],
        ),
    ]
    output.answer(document, grids, options.json)


if __name__ == "__main__":
    output.run(main)
