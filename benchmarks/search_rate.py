"""How many candidates a search evaluates a second, and whether that holds as its record grows.

    python benchmarks/search_rate.py --candidates 20000 --recorded 0,1000,10000,100000 --out rate.json

First, `hwnas search` with the default estimator in a process of its own: seconds and peak memory. Then
runs with so many recorded candidates are resumed for a few hundred more: the seconds that reading them
takes, and candidates a second afterwards. Everything is written to a run directory, as a search does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FURTHER = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="rpi4")
    parser.add_argument("--budget-ms", type=float, default=20.0)
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--recorded", default="0,1000,10000,100000")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "device": asked.device,
            "budget_ms": asked.budget_ms,
            "sampler": asked.sampler,
            "cores": len(os.sched_getaffinity(0)),
            "whole": whole_search(Path(folder) / "whole", asked),
            "recorded": [
                resumed_search(Path(folder) / f"after-{count}", asked, int(count))
                for count in asked.recorded.split(",")
            ],
        }
    text = json.dumps(found, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


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
    evaluated = (run / "candidates.jsonl").read_bytes().count(b"\n")
    return {
        "candidates": evaluated,
        "seconds": round(seconds, 2),
        "per_second": round(evaluated / seconds, 1),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
    }


def resumed_search(run: Path, asked: argparse.Namespace, recorded: int) -> dict[str, Any]:
    """A run with so many candidates, taken up for some more."""
    from hwnas.search import resume, search

    options: dict[str, Any] = {"device": asked.device, "budget_ms": asked.budget_ms}
    search(**options, sampler=asked.sampler, trials=1, out=run)
    record(run, asked, recorded)
    marks: list[float] = []
    began = time.monotonic()
    resume(run, trials=recorded + FURTHER, progress=lambda done, wanted: marks.append(time.monotonic()))
    return {
        "recorded": recorded,
        "seconds_to_the_first": round(marks[0] - began, 2),
        "per_second": round((len(marks) - 1) / (marks[-1] - marks[0]), 1),
    }


def record(run: Path, asked: argparse.Namespace, count: int) -> None:
    """Fills the run's record with random networks within the budget, evaluated as a search would."""
    from hwnas.latency import LatencyTable
    from hwnas.predictors.accuracy import load_accuracy
    from hwnas.search.problem import Problem
    from hwnas.search.record import Record, read_record
    from hwnas.space.search_space import SearchSpace

    space, path = SearchSpace.default(), run / "candidates.jsonl"
    table = LatencyTable.load(asked.device)
    problem = Problem(space, table, load_accuracy("published"), budget_ms=asked.budget_ms)
    rng, known = random.Random(0), {line["id"] for line in read_record(path)}
    with Record(path) as lines:
        while len(known) < count:
            vector = space.encode(space.sample(rng))
            if problem.fits(vector) and (trial := problem.evaluate(vector)).id not in known:
                known.add(trial.id)
                lines.append(trial.to_dict())


if __name__ == "__main__":
    main()
