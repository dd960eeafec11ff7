"""Whether two builds in a row agree, and what a build does when other programs take both cores.

    python benchmarks/latency_builds.py [--folder FOLDER] [--json FILE] [-- OPTIONS OF hwnas table build]

Builds the same table three times: twice alone, then while a busy loop runs on every core. The first two
agree by the median difference of their rows. The third either agrees with the first, or refuses: exit 5,
the machine is unstable. A build that is in the folder already is not repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import latency_output as output
import numpy as np
from latency_scores import median_difference_percent

from hwnas.errors import HwnasError
from hwnas.io.atomic import write_whole
from hwnas.predictors.latency import LatencyTable

SMALL = ("--ops", "presets", "--networks", "12")
"""What is built unless told otherwise: minutes, not a table to use."""
UNSTABLE = 5
"""The exit code of a build that the machine was too noisy for."""
BUSY = "while True: pass"


def build(folder: Path, name: str, options: Sequence[str]) -> dict[str, Any]:
    """One build in a process of its own: its exit code and seconds; kept in the folder.

    Raises HwnasError when it ends with another code than 0 and that of an unstable machine.
    """
    record = folder / f"{name}.json"
    if record.exists():
        held: dict[str, Any] = json.loads(record.read_text())
        if held["options"] == list(options):
            return held
    command = [sys.executable, "-m", "hwnas", "table", "build", "--name", name, "--out", str(folder)]
    (folder / f"{name}.samples.part").unlink(missing_ok=True)
    start = time.monotonic()
    done = subprocess.run([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, UNSTABLE):
        raise HwnasError(f"the build '{name}' failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    answer = {
        "options": list(options),
        "exit_code": done.returncode,
        "seconds": time.monotonic() - start,
        "said": done.stderr.strip().splitlines()[-1:],
    }
    write_whole(record, json.dumps(answer))
    return answer


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Runs a busy loop on so many cores meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def agreement(first: LatencyTable, second: LatencyTable) -> dict[str, Any]:
    """How much the rows that both measured differ, in percent of the first."""
    keys = [key for key, row in first.rows.items() if key in second.rows]
    keys = [key for key in keys if not first.rows[key].filled and not second.rows[key].filled]
    rows = [[table.rows[key].ms for key in keys] for table in (first, second)]
    differences = 100 * np.abs(np.array(rows[1]) / np.array(rows[0]) - 1)
    return {
        "rows": len(keys),
        "median_percent": median_difference_percent(*rows),
        "p95_percent": float(np.quantile(differences, 0.95)),
        "max_percent": float(differences.max()),
        "disturbed_rows": len(second.disturbed),
    }


def compare(folder: Path, options: Sequence[str], *, cores: int) -> dict[str, Any]:
    """All three builds, and how they agree."""
    builds = {}
    for name in ("first", "second"):
        output.say(f"building: {name}")
        builds[name] = build(folder, name, options)
    output.say(f"building while {cores} busy loops run")
    with busy_cores(cores):
        builds["busy"] = build(folder, "busy", options)
    tables = {
        name: LatencyTable.load(folder / f"{name}.yaml")
        for name, item in builds.items()
        if item["exit_code"] == 0
    }
    pairs = {
        name: agreement(tables["first"], tables[name])
        for name in ("second", "busy")
        if name in tables and "first" in tables
    }
    return {"options": list(options), "cores": cores, "builds": builds, "against_first": pairs}


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="where the builds are kept (a temporary folder)")
    parser.add_argument("options", nargs="*", metavar="OPTION", help=f"of the build ({' '.join(SMALL)})")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    wanted = options.options or list(SMALL)
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            document = compare(Path(folder), wanted, cores=cores)
    else:
        options.folder.mkdir(parents=True, exist_ok=True)
        document = compare(options.folder, wanted, cores=cores)
    rows = []
    for name, item in document["builds"].items():
        figures = document["against_first"].get(name, {})
        columns = ("rows", "median_percent", "p95_percent", "max_percent", "disturbed_rows")
        rows.append([name, item["exit_code"], item["seconds"], *(figures.get(column) for column in columns)])
    titles = ("build", "exit code", "seconds", "rows", "median %", "p95 %", "max %", "disturbed rows")
    title = f"three builds of the same table, the last beside {cores} busy loops; difference from the first"
    output.answer(document, [output.grid(title, titles, rows)], options.json)


if __name__ == "__main__":
    output.run(main)
