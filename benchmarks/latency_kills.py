"""Whether a build that is killed again and again resumes to the rows of one that was not.

    python benchmarks/latency_kills.py [--kills 10] [--json FILE] [-- OPTIONS OF hwnas table build]

Builds a table once without interruption; then builds it again, killed (SIGKILL to its process group) at
random moments and resumed with the same command. Counted for each kill: the cells on record before it,
those of them that are gone after it, and those that were measured again although they were good.
The cell that was being measured is lost with every kill; no other may be.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import latency_output as output

from hwnas.errors import HwnasError, UnstableError
from hwnas.measure.cells import judged
from hwnas.predictors.latency import LatencyTable

SMALL = ("--ops", "presets", "--networks", "4", "--passes", "1")
"""What is built unless told otherwise."""
KILLED_SHARE = 0.8
"""Of the time that the build takes, so much goes by until the last kill."""


def whole_lines(data: bytes) -> list[bytes]:
    """The lines of a samples file that were written to their end."""
    return data.splitlines()[: data.count(b"\n")]


def cells_of(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """The records of cells among whole lines: all but the first, which says what was asked."""
    return [json.loads(line) for line in lines[1:]]


def needlessly_again(records: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Cells that a process measured although the records before it held them undisturbed, by process."""
    again: dict[int, list[str]] = {}
    start = 0
    good: set[tuple[int, str]] = set()
    for index, record in enumerate(records):
        if index == 0 or record["process"] != records[index - 1]["process"]:
            start = index
            good = {
                (item["pass"], item["cell"])
                for item, disturbed in judged(records[:start], _is_network)
                if not disturbed
            }
        if (record["pass"], record["cell"]) in good:
            again.setdefault(int(record["process"]), []).append(str(record["cell"]))
    return again


def lost_lines(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    """How many whole lines of before the kill are not where they were after it."""
    same = sum(1 for old, new in zip(before, after, strict=False) if old == new)
    return len(before) - same


def moments(count: int, total_s: float, rng: random.Random) -> list[float]:
    """How long each run goes on before its kill: random, in sum `total_s`."""
    drawn = [rng.random() for _ in range(count)]
    return [total_s * part / sum(drawn) for part in drawn]


class Builds:
    """Runs of one `hwnas table build`, in process groups of their own."""

    def __init__(self, folder: Path, name: str, options: Sequence[str]) -> None:
        self.samples = folder / f"{name}.samples.part"
        self.done = folder / f"{name}.samples"
        self.table = folder / f"{name}.yaml"
        build = [sys.executable, "-m", "hwnas", "table", "build", "--name", name, "--out", str(folder)]
        self._command = [*build, *options]

    def run(self, *, kill_after_s: float | None = None) -> bool:
        """Goes on with the build; whether it came to its end, and was not killed.

        Raises UnstableError when the machine was too noisy for it, HwnasError when it failed otherwise.
        """
        resume = ["--resume"] if self.samples.exists() else []
        with tempfile.TemporaryFile("w+") as complaints:
            process = subprocess.Popen(
                [*self._command, *resume],
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=kill_after_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return False
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            complaints.seek(0)
            said = complaints.read().strip()[-500:]
        if code == UnstableError.exit_code:
            raise UnstableError(f"only builds that end can be compared, on a quiet machine: {said}")
        if code:
            raise HwnasError(f"the build failed ({code}): {said}")
        return True

    def lines(self) -> list[bytes]:
        """The whole lines of the samples, finished or not."""
        for path in (self.samples, self.done):
            if path.exists():
                return whole_lines(path.read_bytes())
        return []


def _is_network(cell: str) -> bool:
    """Op keys have settings in brackets, labels of networks have none."""
    return "(" not in cell


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", metavar="OPTION", help=f"of the build ({' '.join(SMALL)})")
    options = parser.parse_args()
    wanted = options.options or list(SMALL)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output.say("building without interruption")
        reference = Builds(folder, "reference", wanted)
        start = time.monotonic()
        reference.run()
        reference_s = time.monotonic() - start
        killed = Builds(folder, "killed", wanted)
        kills: list[dict[str, Any]] = []
        snapshots: list[list[bytes]] = []
        ended = False
        # In sum less than the build takes, or it would be through before the last one.
        for moment_s in moments(options.kills, KILLED_SHARE * reference_s, rng):
            ended = killed.run(kill_after_s=moment_s)
            if ended:
                break
            snapshots.append(killed.lines())
            kills.append({"after_s": moment_s, "cells_on_record": max(len(snapshots[-1]) - 1, 0)})
            output.say(f"kill {len(kills)}: {kills[-1]['cells_on_record']} cells on record")
        if not ended:
            killed.run()
        final = killed.lines()
        for kill, before in zip(kills, snapshots, strict=True):
            kill["lost"] = lost_lines(before, final)
        rows = [set(LatencyTable.load(build.table).rows) for build in (reference, killed)]
        again = needlessly_again(cells_of(final))
    document = {
        "options": wanted,
        "seconds_without_interruption": reference_s,
        "kills": kills,
        "measured_again_though_good": sorted(cell for cells in again.values() for cell in cells),
        "rows": [len(part) for part in rows],
        "same_rows": rows[0] == rows[1],
    }
    grids = [
        output.grid(
            "each kill",
            ("after s", "cells on record", "of them gone"),
            [(f"{kill['after_s']:.1f}", kill["cells_on_record"], kill["lost"]) for kill in kills],
        ),
        output.grid(
            f"a build killed {len(kills)} times and resumed, beside one that was not",
            ("", ""),
            [
                ("rows without interruption", document["rows"][0]),
                ("rows after the kills", document["rows"][1]),
                ("the same rows", "yes" if document["same_rows"] else "no"),
                ("cells measured again though good", len(document["measured_again_though_good"])),
            ],
        ),
    ]
    output.answer(document, grids, options.json)


if __name__ == "__main__":
    output.run(main)
