"""How long `hwnas search` takes with the default estimator, and how good its front is.

    python benchmarks/search_seconds.py --json benchmarks/results/search_seconds.json

For each device and budget: `hwnas search` by the command line, twice, in a process of its own (seconds
by the clock and of CPU, and peak memory of the second). Its hypervolume is compared with that of the
search that was the default before: 20,000 candidates chosen with a surrogate, whose fronts `--reference
FILE` holds. They were made with the hwnas of that time, and each network is predicted anew here:

    git worktree add ../before 28bfeab
    PYTHONPATH=../before python benchmarks/search_seconds.py --make benchmarks/results/search_reference.json

With `--again`, a second budget is asked of each run (`hwnas search --from RUN`, nine tenths of the
first): seconds, and the hypervolume beside that of a fresh search.

The hypervolume is that of all recorded networks, in latency and lower bound of the accuracy, from (budget,
`--floor`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.predictors.accuracy import load_accuracy
from hwnas.search import load_run, pareto, search
from hwnas.space.search_space import SearchSpace

PAIRS = (
    ("rpi4", 10.0),
    ("rpi4", 20.0),
    ("rpi4", 40.0),
    ("rpi5", 5.0),
    ("rpi5", 10.0),
    ("jetson-nano", 10.0),
    ("jetson-nano", 20.0),
    ("jetson-nano", 40.0),
    ("cpu-x86", 5.0),
    ("cpu-x86", 10.0),
)
REFERENCE = Path(__file__).parent / "results" / "search_reference.json"
SECOND_BUDGET = 0.9
"""Of `--again`, in parts of the first."""
Point = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", help="such as rpi4:20,rpi5:10 (default: ten of them)")
    parser.add_argument("--floor", type=float, default=40.0, help="accuracy in %% that volume counts from")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="fronts to compare with")
    parser.add_argument("--again", action="store_true", help="ask each run for another budget too")
    parser.add_argument("--make", type=Path, help="add the pairs' reference fronts to this file, and end")
    parser.add_argument("--candidates", type=int, default=20_000, help="of a reference")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    pairs = PAIRS
    if asked.pairs:
        split = [text.split(":") for text in asked.pairs.split(",")]
        pairs = tuple((device, float(ms)) for device, ms in split)
    if asked.make:
        make_reference(asked.make, pairs, asked.candidates)
        return
    known = json.loads(asked.reference.read_text()) if asked.reference.exists() else {}
    rows = []
    for device, budget_ms in pairs:
        with tempfile.TemporaryDirectory() as folder:
            row = compared(Path(folder), device, budget_ms, known.get(f"{device}:{budget_ms:g}"), asked.floor)
            if asked.again:
                row |= asked_again(Path(folder), device, budget_ms, asked.floor)
        rows.append(row)
        print(json.dumps(row), flush=True)
    found = {"cores": len(os.sched_getaffinity(0)), "floor": asked.floor, "rows": rows}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def compared(
    folder: Path, device: str, budget_ms: float, reference: dict[str, Any] | None, floor: float
) -> dict[str, Any]:
    """One pair: the command line's second run, and the search before."""
    new = ["--device", device, "--budget", f"{budget_ms}ms"]
    timed(folder / "first", *new)
    seconds, cpu_s, peak_mib = timed(folder / "second", *new)
    result = load_run(folder / "second")
    volume = hypervolume(points_of(folder / "second"), budget_ms, floor)
    row = {
        "device": device,
        "budget_ms": budget_ms,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_s, 2),
        "peak_mib": round(peak_mib, 1),
        "evaluated": result.evaluated,
        "recorded": len(result.trials),
        "hypervolume": round(volume, 4),
    }
    if reference:
        before = hypervolume(predicted(device, reference["vectors"]), budget_ms, floor)
        row |= {
            "before_candidates": reference["candidates"],
            "before_seconds": reference["seconds"],
            "before_hypervolume": round(before, 4),
            "ratio": round(volume / before, 5),
        }
    return row


def asked_again(folder: Path, device: str, budget_ms: float, floor: float) -> dict[str, Any]:
    """The run in `second`, asked for another budget, beside a fresh search for that."""
    other_ms = SECOND_BUDGET * budget_ms
    from_run = ["--from", str(folder / "second"), "--budget", f"{other_ms}ms"]
    seconds, cpu_s, _ = timed(folder / "again", *from_run)
    fresh_s, fresh_cpu_s, _ = timed(folder / "fresh", "--device", device, "--budget", f"{other_ms}ms")
    again, fresh = (hypervolume(points_of(folder / name), other_ms, floor) for name in ("again", "fresh"))
    return {
        "again_budget_ms": other_ms,
        "again_seconds": round(seconds, 2),
        "again_cpu_seconds": round(cpu_s, 2),
        "again_evaluated": load_run(folder / "again").evaluated,
        "fresh_seconds": round(fresh_s, 2),
        "fresh_cpu_seconds": round(fresh_cpu_s, 2),
        "again_ratio": round(again / fresh, 5),
    }


def make_reference(file: Path, pairs: Sequence[tuple[str, float]], candidates: int) -> None:
    """Adds the front of a search with so many candidates for each pair that the file does not have yet."""
    for device, budget_ms in pairs:
        fronts = json.loads(file.read_text()) if file.exists() else {}
        name = f"{device}:{budget_ms:g}"
        if name in fronts:
            continue
        began = time.monotonic()
        result = search(device=device, budget_ms=budget_ms, trials=candidates)
        points = [(trial.latency.value, -trial.accuracy.lower_bound()) for trial in result.trials]
        fronts[name] = {
            "candidates": len(result.trials),
            "seconds": round(time.monotonic() - began, 1),
            "vectors": [list(result.trials[row].vector) for row in pareto.front(points)],
        }
        print(
            name,
            fronts[name]["candidates"],
            fronts[name]["seconds"],
            len(fronts[name]["vectors"]),
            flush=True,
        )
        text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fronts.items())
        file.write_text(f"{{\n{text}\n}}\n")


def timed(run: Path, *options: str) -> tuple[float, float, float]:
    """Seconds by the clock and of CPU, and peak memory in MiB, of one `hwnas search`."""
    command = [sys.executable, "-m", "hwnas", "search", *options, "--out", str(run)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the search ended with exit code {process.returncode}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def points_of(run: Path) -> list[Point]:
    """Latency and negated lower bound of the accuracy of all recorded networks."""
    return [(trial.latency.value, -trial.accuracy.lower_bound()) for trial in load_run(run).trials]


def predicted(device: str, vectors: Sequence[Sequence[int]]) -> list[Point]:
    """The same of networks of the default space, as they are predicted today."""
    from hwnas.predictors.latency import LatencyTable  # `--make` runs with a hwnas that has it elsewhere

    space, many = SearchSpace.default(), np.array(vectors, dtype=np.int64)
    values, stds = load_accuracy("published").predict_many(many, space)  # type: ignore[attr-defined]
    return list(
        zip(
            LatencyTable.load(device).predict_many(many, space).tolist(),
            (stds - values).tolist(),
            strict=True,
        )
    )


def hypervolume(points: Sequence[Point], budget_ms: float, floor: float) -> float:
    """From the budget and the floor; in ms times points of accuracy."""
    return pareto.hypervolume(points, [budget_ms, -floor])


if __name__ == "__main__":
    main()
