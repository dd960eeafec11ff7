"""How long the command line takes, as a user feels it: whole processes, wall clock.

    python benchmarks/command_line.py [--runs 5] [--json]

Times `hwnas --help`, `hwnas devices`, `hwnas describe` and the README's search (2,000 candidates) with
the hwnas that is installed beside this Python, and prints minimum, median and maximum seconds next to what is
promised. Run it alone: another busy process shows in the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "hwnas --help": (["--help"], 0.5),
    "hwnas devices": (["devices"], 1.0),
    "hwnas describe uniform-t --device rpi4": (["describe", "uniform-t", "--device", "rpi4"], None),
    "hwnas search --device rpi4 --budget 20ms --trials 2000": (
        ["search", "--device", "rpi4", "--budget", "20ms", "--trials", "2000"],
        15.0,
    ),
}
"""What is typed, its arguments, and the promised seconds."""


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one run, in an empty folder of its own."""
    hwnas = Path(sys.executable).with_name("hwnas")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([hwnas, *arguments], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each, after one more")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args()
    rows = []
    for typed, (arguments, promised_s) in COMMANDS.items():
        seconds(arguments)  # the first run reads files that the others find in memory
        taken = [seconds(arguments) for _ in range(options.runs)]
        rows.append(
            {
                "command": typed,
                "min_s": round(min(taken), 2),
                "median_s": round(statistics.median(taken), 2),
                "max_s": round(max(taken), 2),
                "promised_s": promised_s,
            }
        )
    if options.json:
        print(json.dumps({"schema": 1, "runs": options.runs, "rows": rows}, indent=2))
        return
    print("| command | min s | median s | max s | promised s |\n|---|---|---|---|---|")
    for row in rows:
        promised = "-" if row["promised_s"] is None else row["promised_s"]
        print(f"| `{row['command']}` | {row['min_s']} | {row['median_s']} | {row['max_s']} | {promised} |")


if __name__ == "__main__":
    main()
