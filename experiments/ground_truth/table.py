"""results.jsonl: a line for each finished training. The one file that every estimator is judged on."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("results.jsonl")


def rows(protocol: str, file: Path = FILE) -> list[dict[str, Any]]:
    """The finished trainings of a protocol; a last line that a kill has torn is not one."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [row for row in map(json.loads, lines) if row["protocol"] == protocol]


def append(row: dict[str, Any], file: Path = FILE) -> None:
    """Adds a line: whole, and on the disk when this returns. A torn last line is cut off before."""
    with file.open("ab+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # several processes may share the work
        opened.seek(0)
        content = opened.read()
        opened.truncate(content.rfind(b"\n") + 1)
        opened.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
