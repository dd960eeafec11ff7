"""How much of the front is found after how many evaluations: hwnas beside Optuna and pymoo.

    python benchmarks/search_quality.py --json benchmarks/results/search_quality.json

Each objective of `search_objectives.py` at two budgets, each method of `search_methods.py`, ten seeds,
500 evaluations. A run that is done is a line in the file --runs; the same command goes on where it was
interrupted. In pieces and side by side:

    python benchmarks/search_quality.py --seeds 0-4 --runs a.jsonl --seconds 200   # until it says nothing
    python benchmarks/search_quality.py --seeds 5-9 --runs b.jsonl --seconds 200
    python benchmarks/search_quality.py --seeds 0-9 --runs a.jsonl --also b.jsonl --json FILE

Hypervolume lies between a corner (the budget; in true score, the median of random networks that were
shrunk until they are within it) and the networks that a search would show after so many evaluations:
the front of what it was told, with their true scores. It is given as a share of that of the best
front known: of all that all runs evaluated, by true score. `stay` counts the seeds whose networks shown
in the end have no other attentions, stage by stage, than the 24 that a search begins with.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from search_methods import METHODS, evaluated
from search_objectives import OBJECTIVES, Objective

from hwnas.io.jsonl import Kind, Log, read_log
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency import LatencyTable
from hwnas.search import pareto
from hwnas.search.feasibility import fastest
from hwnas.search.initial import START
from hwnas.search.problem import Problem
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves

AFTER = (50, 100, 125, 200, 500)
"""Evaluations after which fronts are compared; 125 is where hwnas should be as good as another at 500."""
RANDOM_NETWORKS = 400
"""Whose median score is the corner of the hypervolume."""

Point = tuple[float, float, float]
"""Latency in ms, what the search was told (the lower bound), what is true."""

RUNS = Kind(
    "hwnas search quality runs",
    noun="a run of this benchmark",
    fix="Delete that line to do the run again",
    old_keys=("table_digest", "objective"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="rpi4", help="latency table (default: rpi4)")
    parser.add_argument("--budgets", default="20,40", help="in ms, comma between (default: 20,40)")
    parser.add_argument("--seeds", default="0-9", help="which, such as 0-9 or 3 (default: 0-9)")
    parser.add_argument("--methods", default=",".join(METHODS), help="names, comma between (default: all)")
    parser.add_argument("--objectives", default=",".join(each.name for each in OBJECTIVES))
    parser.add_argument("--runs", type=Path, default=Path("search_quality.runs.jsonl"), help="what is done")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="what others have done")
    parser.add_argument("--seconds", type=float, help="begin no run after so many; print nothing but that")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    table = LatencyTable.load(options.device)
    budgets_ms = [float(text) for text in options.budgets.split(",")]
    objectives = [each for each in OBJECTIVES if each.name in options.objectives.split(",")]
    methods = options.methods.split(",")
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    wanted = [
        (objective, budget_ms, method, seed)
        for seed in seeds
        for objective in objectives
        for budget_ms in budgets_ms
        for method in methods
    ]
    began = time.monotonic()
    left = 0
    with Log(options.runs, RUNS) as record:
        done = {_key(run) for run in _runs(options)}
        for objective, budget_ms, method, seed in wanted:
            if (table.digest, objective.name, budget_ms, method, seed) in done:
                continue
            if options.seconds is not None and time.monotonic() - began > options.seconds:
                left += 1
                continue
            record.append(_one_run(table, objective, budget_ms, method, seed))
            record.flush()
            print(f"{objective.name}, {budget_ms:g} ms, {method}, seed {seed}", file=sys.stderr)
    if left:
        raise SystemExit(f"{left} runs are left of {len(wanted)}: give the same command again")
    if options.seconds is not None:
        return
    runs = [run for run in _runs(options) if run["table_digest"] == table.digest and run["seed"] in seeds]
    rows = [
        row
        for objective in objectives
        for budget_ms in budgets_ms
        for row in _rows(table, objective, budget_ms, methods, runs)
    ]
    _print(rows)
    if options.json:
        document = {"device": options.device, "table_digest": table.digest, "seeds": len(seeds)}
        options.json.write_text(json.dumps(document | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def _runs(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All that is done, here and by others."""
    return [run for path in (options.runs, *options.also) for run in read_log(path, RUNS).rows]


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["table_digest"], run["objective"], run["budget_ms"], run["method"], run["seed"]


def _problem(table: LatencyTable, objective: Objective, budget_ms: float, seed: int) -> Problem:
    told = load_accuracy(objective.told(seed))
    return Problem.on_device(SearchSpace.default(), table, told, budget_ms=budget_ms)


def _one_run(
    table: LatencyTable, objective: Objective, budget_ms: float, method: str, seed: int
) -> dict[str, Any]:
    problem = _problem(table, objective, budget_ms, seed)
    started = time.process_time()
    trials = evaluated(method, problem, wanted=max(AFTER), seed=seed)
    seconds = time.process_time() - started
    return {
        "table_digest": table.digest,
        "objective": objective.name,
        "budget_ms": budget_ms,
        "method": method,
        "seed": seed,
        "cpu_seconds": round(seconds, 2),
        "points": [
            [
                trial.latency.value,
                trial.accuracy.lower_bound(),
                objective.true(problem.space.decode(trial.vector)),
            ]
            for trial in trials
        ],
        "attentions": [attentions_of(problem.space.decode(trial.vector)) for trial in trials],
    }


def attentions_of(arch: ArchSpec) -> str:
    """Which attentions each stage has: `none | reuse | reuse, single-head`."""
    stages = [{"none" if block is None else block.type for block in one.blocks} for one in arch.stages]
    return " | ".join(", ".join(sorted(kinds)) for kinds in stages)


def stays(run: dict[str, Any]) -> bool:
    """Whether every network shown in the end has the attentions, stage by stage, of one of the first."""
    shown = pareto.front([(ms, -told) for ms, told, _ in run["points"]])
    return {run["attentions"][row] for row in shown} <= set(run["attentions"][:START])


def _rows(
    table: LatencyTable,
    objective: Objective,
    budget_ms: float,
    methods: Sequence[str],
    runs: Sequence[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """A row for each method: the mean over seeds, and the spread of one seed."""
    here = [run for run in runs if run["objective"] == objective.name and run["budget_ms"] == budget_ms]
    corner = (budget_ms, -_median_of_random_networks(table, objective, budget_ms))
    best = pareto.hypervolume([(ms, -true) for run in here for ms, _, true in run["points"]], corner)
    for method in methods:
        own = [run for run in here if run["method"] == method]
        shares = {
            count: [shown_volume(run["points"][:count], corner) / best for run in own] for count in AFTER
        }
        yield {
            "objective": objective.name,
            "budget_ms": budget_ms,
            "method": method,
            "seeds": len(own),
            "mean": {str(count): statistics.fmean(values) for count, values in shares.items()},
            "deviation": {str(count): statistics.stdev(values) for count, values in shares.items()}
            if len(own) > 1
            else None,
            "cpu_seconds": statistics.fmean(run["cpu_seconds"] for run in own),
            "stay_in_first_attentions": sum(map(stays, own)),
        }


def shown_volume(points: Sequence[Point], corner: tuple[float, float]) -> float:
    """Hypervolume, by what is true, of the front by what was told."""
    shown = pareto.front([(ms, -told) for ms, told, _ in points])
    return pareto.hypervolume([(points[row][0], -points[row][2]) for row in shown], corner)


def _median_of_random_networks(table: LatencyTable, objective: Objective, budget_ms: float) -> float:
    problem = _problem(table, objective, budget_ms, 0)
    moves, rng = Moves(problem.space), np.random.default_rng(0)
    drawn = moves.random(RANDOM_NETWORKS, rng)
    within = moves.shrunk(drawn, fastest(problem), rng, feasible=problem.feasible)
    return statistics.median(objective.true(problem.space.decode(row)) for row in within.tolist())


def _print(rows: Sequence[dict[str, Any]]) -> None:
    print("share of the best known hypervolume after so many evaluations (mean over seeds)")
    print("| objective | budget | method | " + " | ".join(map(str, AFTER)) + " | CPU s | stay |")
    print("|---|---|---|" + "---|" * (len(AFTER) + 2))
    for row in rows:
        figures = " | ".join(f"{row['mean'][str(count)]:.4f}" for count in AFTER)
        print(
            f"| {row['objective']} | {row['budget_ms']:g} ms | {row['method']} | {figures} "
            f"| {row['cpu_seconds']:.1f} | {row['stay_in_first_attentions']} of {row['seeds']} |"
        )


if __name__ == "__main__":
    main()
