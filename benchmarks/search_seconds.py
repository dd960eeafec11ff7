"""How long `hwnas search` takes with the default estimator, and how good its front is.

    python benchmarks/search_seconds.py --json benchmarks/results/search_seconds.json

For each device and budget: `hwnas search` by the command line, twice, in a process of its own (seconds
and peak memory of the second), and the search that was the default before, 2,000 or more candidates
chosen with a surrogate (`--candidates`, 20,000). The hypervolume is that of all recorded networks, in
latency and lower bound of the accuracy, from (budget, `--floor`).
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

from hwnas.search import SearchResult, load_run, pareto, search

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", help="such as rpi4:20,rpi5:10 (default: ten of them)")
    parser.add_argument(
        "--candidates", type=int, default=20_000, help="of the search before; 0: leave it out"
    )
    parser.add_argument("--floor", type=float, default=40.0, help="accuracy in %% that volume counts from")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    asked = parser.parse_args()
    pairs = PAIRS
    if asked.pairs:
        split = [text.split(":") for text in asked.pairs.split(",")]
        pairs = tuple((device, float(ms)) for device, ms in split)
    rows = []
    for device, budget_ms in pairs:
        with tempfile.TemporaryDirectory() as folder:
            row = compared(Path(folder), device, budget_ms, candidates=asked.candidates, floor=asked.floor)
        rows.append(row)
        print(json.dumps(row), flush=True)
    found = {"cores": len(os.sched_getaffinity(0)), "floor": asked.floor, "rows": rows}
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


def compared(folder: Path, device: str, budget_ms: float, *, candidates: int, floor: float) -> dict[str, Any]:
    """One pair: the command line's second run, and the search before."""
    timed(folder / "first", device, budget_ms)
    seconds, peak_mib = timed(folder / "second", device, budget_ms)
    result = load_run(folder / "second")
    row = {
        "device": device,
        "budget_ms": budget_ms,
        "seconds": round(seconds, 2),
        "peak_mib": round(peak_mib, 1),
        "evaluated": result.evaluated,
        "recorded": len(result.trials),
        "hypervolume": round(hypervolume(result, floor), 4),
    }
    if candidates:
        began = time.monotonic()
        before = search(device=device, budget_ms=budget_ms, trials=candidates)
        row |= {
            "before_candidates": candidates,
            "before_seconds": round(time.monotonic() - began, 2),
            "before_hypervolume": round(hypervolume(before, floor), 4),
            "ratio": round(hypervolume(result, floor) / hypervolume(before, floor), 5),
        }
    return row


def timed(run: Path, device: str, budget_ms: float) -> tuple[float, float]:
    """Seconds and peak memory in MiB of one `hwnas search`."""
    command = [sys.executable, "-m", "hwnas", "search", "--device", device]
    command += ["--budget", f"{budget_ms}ms", "--out", str(run)]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the search ended with exit code {process.returncode}")
    return time.monotonic() - began, usage.ru_maxrss / 1024


def hypervolume(result: SearchResult, floor: float) -> float:
    """Of all recorded networks, from the budget and the floor; in ms times points of accuracy."""
    points = [(trial.latency.value, -trial.accuracy.lower_bound()) for trial in result.trials]
    return pareto.hypervolume(points, [result.config.targets[0].budget_ms, -floor])


if __name__ == "__main__":
    main()
