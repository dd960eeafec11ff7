"""`hwnas search` in processes of its own, on the toy board and the small space of `search_fakes`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from search_fakes import SMALL, table

from hwnas.io.jsonl import read_log
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES

__all__ = ["QUESTION", "command", "evaluated", "furnish", "wait_for_candidates"]

QUESTION = (
    "--device",
    "toy",
    "--budget",
    "0.9ms",
    "--space",
    "small.yaml",
    "--accuracy",
    "search_fakes:slow",
)


def furnish(place: Path) -> Path:
    """A folder with a toy board's table and the small space, to search from."""
    (place / "tables").mkdir()
    table().save(place / "tables" / "toy.yaml")
    (place / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return place


def command(place: Path, *arguments: str) -> subprocess.Popen[str]:
    """`hwnas search ARGUMENTS`, begun in that folder."""
    root = Path(__file__).resolve().parent
    environment = os.environ | {
        "HWNAS_TABLES": str(place / "tables"),
        "PYTHONPATH": os.pathsep.join([str(root.parent), str(root)]),
        "EVALUATIONS": str(place / "evaluations"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "hwnas", "search", *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluated(run: Path) -> int:
    """Candidates in the run's record."""
    return len(read_log(run / CANDIDATES, CANDIDATE_LOG).rows)


def wait_for_candidates(run: Path, count: int) -> None:
    """Until so many are recorded; fails after 20 s."""
    for _ in range(2000):
        if evaluated(run) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("the search wrote nothing for 20 s")
