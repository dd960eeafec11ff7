"""How busy parallel workers are while a search evaluates a costly estimator.

    python benchmarks/search_workers.py --json benchmarks/results/search_workers.json

The estimator sleeps, for `--seconds` on average: the same time for every network, or an exponential time
by the network's id (a few networks take several times as long as the others). Each evaluation notes when
it began and ended. The busy share is the time in evaluations over workers times the time from the first
evaluation's begin to the last one's begin: 1 is a search that never makes a worker wait.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.estimate import Estimate
from hwnas.predictors.accuracy import load_accuracy
from hwnas.search import SearchResult, search
from hwnas.space.arch import ArchSpec


@dataclass(frozen=True)
class Sleeping:
    """The default estimator, after a while."""

    log: Path
    seconds: float
    is_even: bool
    unit: str = "%"

    def predict(self, arch: ArchSpec) -> Estimate:
        began = time.time()
        share = (int(arch.id, 16) % 10_007 + 0.5) / 10_007
        time.sleep(self.seconds * (1.0 if self.is_even else -math.log(share)))
        answer = load_accuracy("published").predict(arch)
        with self.log.open("a") as file:
            file.write(f"{began} {time.time()}\n")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", default="2,4,8")
    parser.add_argument("--engines", default="optuna,ray")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    rows = []
    for engine in asked.engines.split(","):
        for workers in map(int, asked.workers.split(",")):
            for is_even in (True, False):
                rows.append(busy(engine, workers, asked.seconds, asked.trials, is_even=is_even))
                print(json.dumps(rows[-1]), flush=True)
    if asked.json:
        found = {"cores": len(os.sched_getaffinity(0)), "rows": rows}
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def busy(engine: str, workers: int, seconds: float, trials: int, *, is_even: bool) -> dict[str, Any]:
    """One search: how busy its workers were, and what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        result: SearchResult = search(
            device="rpi4",
            budget_ms=20.0,
            accuracy=Sleeping(log, seconds, is_even),
            trials=trials,
            engine=engine,
            workers=workers,
        )
        spans = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    first, last = min(began for began, _ in spans), max(began for began, _ in spans)
    worked = sum(min(ended, last) - began for began, ended in spans)
    return {
        "engine": engine,
        "workers": workers,
        "seconds_each": seconds,
        "times": "even" if is_even else "exponential",
        "evaluations": len(spans),
        "busy_share": round(worked / (workers * (last - first)), 3),
        "per_second": round((len(spans) - 1) / (last - first), 2),
        "best_accuracy": round(max(one.accuracy.lower_bound() for one in result.front), 3),
    }


if __name__ == "__main__":
    main()
