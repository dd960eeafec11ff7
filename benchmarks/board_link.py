"""What a table costs over ssh: bytes sent to the board, and seconds from the command to the first timing.

    python benchmarks/board_link.py [--first-only] [--json FILE] [-- OPTIONS OF hwnas table build]

The board is a private ssh server on loopback, behind a proxy that counts what goes to it. Three builds of
the default space: on a bare board (the system's Python, where numpy and the runtime are installed first),
on the same board again, both ended at their first timing, and on the board to the end of the table.
`--first-only` leaves the last one out. Needs sshd, a package index, and a quiet machine; a quarter of an
hour. The board and its host are one machine here, so what is exported takes the CPU from what is timed: the
bytes and seconds count, the table does not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from board import sshd  # noqa: E402 - the tests' own board
from board.proxy import Wire  # noqa: E402

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """What one build sent, and how long it took."""

    what: str
    first_s: float
    """From the command to the first timing on record."""
    first_bytes: int
    """Sent to the board until then, ssh's own included."""
    whole_s: float | None = None
    whole_bytes: int | None = None
    cells: int | None = None
    """Timings on record at the end."""
    exit_code: int | None = None
    """Of the build that was not ended: 5 where the machine was too noisy for a table."""


def timings_on_record(samples: Path) -> int:
    """Whole lines of a samples file, less its header."""
    try:
        return max(samples.read_bytes().count(b"\n") - 1, 0)
    except FileNotFoundError:
        return 0


def build(
    what: str, board: sshd.Board, name: str, folder: Path, options: Sequence[str], *, to_the_end: bool
) -> Cost:
    """Builds a table over a wire of its own; raises RuntimeError when it ends before its first timing."""
    wire = Wire(board.port)
    start_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hwnas", "table", "build", "--name", name, "--host", sshd.HOST,
         "--out", str(folder), *options],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HWNAS_SSH_CONFIG": str(board.configure(port=wire.port)),
        },
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    running = folder / f"{name}.samples.part"
    try:
        while not timings_on_record(running):
            if process.poll() is not None:
                raise RuntimeError(f"the build ended with {process.returncode} before its first timing")
            time.sleep(POLL_S)
        first_s, first_bytes = time.monotonic() - start_s, wire.bytes_to_target
        if not to_the_end:
            return Cost(what, first_s, first_bytes)
        code = process.wait()
        ended = folder / f"{name}.samples"
        return Cost(
            what,
            first_s,
            first_bytes,
            time.monotonic() - start_s,
            wire.bytes_to_target,
            timings_on_record(ended if ended.exists() else running),
            code,
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        wire.close()


def print_table(costs: Sequence[Cost]) -> None:
    """A row for each build."""
    print(f"{'':14} {'first timing':>12} {'sent by then':>12} {'whole':>8} {'sent':>10} {'timings':>8}")
    for cost in costs:
        row = f"{cost.what:14} {cost.first_s:10.1f} s {cost.first_bytes / 1e6:9.2f} MB"
        if cost.whole_s is not None and cost.whole_bytes is not None:
            row += f" {cost.whole_s:6.0f} s {cost.whole_bytes / 1e6:7.1f} MB {cost.cells:8}"
            row += f", exit code {cost.exit_code}" if cost.exit_code else ""
        print(row)


def main(arguments: Sequence[str]) -> int:
    """Runs the builds and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first-only", action="store_true", help="end every build at its first timing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    split = arguments.index("--") if "--" in arguments else len(arguments)
    asked, options = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    if reason := sshd.why_not():
        print(reason, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        settings = {"HWNAS_PYTHON": "", "PATH": "/usr/local/bin:/usr/bin:/bin", **sshd.package_index()}
        board = sshd.Board(folder / "board", settings)
        try:
            costs = [
                build("bare board", board, "bare", folder, options, to_the_end=False),
                build("set-up board", board, "again", folder, options, to_the_end=False),
            ]
            if not asked.first_only:
                costs.append(build("whole table", board, "whole", folder, options, to_the_end=True))
        finally:
            board.end()
    print_table(costs)
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
