"""How many candidates a search evaluates a second, by its workers and by how many are recorded.

    python benchmarks/search_rate.py --json benchmarks/results/search_rate.json

First, `hwnas search` with the default estimator in a process of its own: seconds and peak memory. Then
searches with 1 and 2 workers and an estimator that takes 0.2 s. Then runs with so many recorded
candidates are resumed for more: the seconds that reading them takes, and candidates a second afterwards,
with the default estimator (in batches) and with one that does not say it is cheap (one by one).
Everything is written to a run directory, as a search does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.estimate import Estimate
from hwnas.io.jsonl import read_log
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency import LatencyTable
from hwnas.search import resume, search
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES
from hwnas.search.feasibility import fastest
from hwnas.search.problem import Problem
from hwnas.search.run import candidate_log
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves

FURTHER = {"batches": 1500, "one by one": 100}
"""So many more candidates are evaluated than are recorded."""
DRAWN = 4000
DEAR_S = 0.2
DEAR_CANDIDATES = 80


def dear(arch: ArchSpec) -> Estimate:
    """The default estimator, after a pause in which the CPU is idle."""
    time.sleep(DEAR_S)
    return load_accuracy("published").predict(arch)


def not_said_to_be_cheap(arch: ArchSpec) -> Estimate:
    """The default estimator."""
    return load_accuracy("published").predict(arch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="rpi4")
    parser.add_argument("--budget-ms", type=float, default=20.0)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--recorded", default="1,1000,10000,100000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    counts = [int(text) for text in asked.recorded.split(",")]
    lines = recorded_lines(asked, max(counts))
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "device": asked.device,
            "budget_ms": asked.budget_ms,
            "sampler": asked.sampler,
            "cores": len(os.sched_getaffinity(0)),
            "whole": whole_search(Path(folder) / "whole", asked),
            "workers": [
                with_workers(Path(folder) / f"workers-{count}", asked, int(count))
                for count in asked.workers.split(",")
            ],
            "recorded": [
                resumed_search(Path(folder) / f"{way}-after-{count}", asked, lines, count, way)
                for way in FURTHER
                for count in counts
            ],
        }
    text = json.dumps(found, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")


def whole_search(run: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """One search by the command line, from nothing."""
    command = [sys.executable, "-m", "hwnas", "search", "--device", asked.device, "--json"]
    command += ["--budget", f"{asked.budget_ms}ms", "--sampler", asked.sampler]
    command += ["--trials", str(asked.candidates), "--out", str(run)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"the search ended with exit code {process.returncode}")
    evaluated = len(read_log(run / CANDIDATES, CANDIDATE_LOG).rows)
    return {
        "candidates": evaluated,
        "seconds": round(seconds, 2),
        "per_second": round(evaluated / seconds, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def with_workers(run: Path, asked: argparse.Namespace, workers: int) -> dict[str, Any]:
    """A search with a dear estimator; the seconds until the workers are there do not count."""
    marks: list[float] = []
    search(
        device=asked.device,
        budget_ms=asked.budget_ms,
        accuracy="search_rate:dear",
        sampler=asked.sampler,
        trials=DEAR_CANDIDATES,
        workers=workers,
        out=run,
        progress=lambda done, wanted: marks.append(time.monotonic()),
    )
    first = 2 * workers
    return {
        "workers": workers,
        "seconds_of_an_evaluation": DEAR_S,
        "per_second": round((len(marks) - first) / (marks[-1] - marks[first - 1]), 1),
    }


def resumed_search(
    run: Path, asked: argparse.Namespace, lines: list[dict[str, Any]], recorded: int, way: str
) -> dict[str, Any]:
    """A run with so many candidates, taken up for some more."""
    accuracy = "published" if way == "batches" else "search_rate:not_said_to_be_cheap"
    options: dict[str, Any] = {"device": asked.device, "budget_ms": asked.budget_ms, "accuracy": accuracy}
    search(**options, sampler=asked.sampler, trials=1, out=run)
    first = read_log(run / CANDIDATES, CANDIDATE_LOG).rows[0]["id"]
    with candidate_log(run) as record:
        record.extend([line for line in lines[: recorded - 1] if line["id"] != first])
    marks: list[float] = []
    began = time.monotonic()
    resume(run, trials=recorded + FURTHER[way], progress=lambda done, wanted: marks.append(time.monotonic()))
    return {
        "recorded": recorded,
        "way": way,
        "seconds_to_the_first": round(marks[0] - began, 2),
        "per_second": round((len(marks) - 1) / (marks[-1] - marks[0]), 1),
    }


def recorded_lines(asked: argparse.Namespace, count: int) -> list[dict[str, Any]]:
    """So many random networks within the budget, as a search would record them."""
    space, accuracy = SearchSpace.default(), load_accuracy("published")
    problem = Problem.on_device(space, LatencyTable.load(asked.device), accuracy, budget_ms=asked.budget_ms)
    moves, rng, donor = Moves(space), np.random.default_rng(0), fastest(problem)
    known: dict[tuple[int, ...], None] = {}
    while len(known) < count:
        within = moves.shrunk(moves.random(DRAWN, rng), donor, rng, feasible=problem.feasible)
        known.update(dict.fromkeys(map(tuple, within.tolist())))
    vectors = list(known)[:count]
    trials = problem.evaluated(vectors, [accuracy.predict(space.decode(vector)) for vector in vectors])
    return [trial.to_dict() for trial in trials]


if __name__ == "__main__":
    main()
