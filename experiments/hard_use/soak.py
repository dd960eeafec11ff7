"""Works for long in one process, and records memory and open files: both must become flat.

    python experiments/hard_use/soak.py candidates --count 200000 --out soak-candidates.json
    python experiments/hard_use/soak.py searches --count 50 --out soak-searches.json
    python experiments/hard_use/soak.py table --minutes 60 --out soak-table.json

`candidates` is one search with that many candidates: each is kept, so that memory grows by what a candidate
takes. `searches` are searches one after the other. `table` times a table's cells on this machine; what it
measures is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

MOST_POINTS = 400
"""Of the curve in the file."""


class Watch:
    """Resident memory and open files of this process, once a second."""

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.done = 0
        self._began = time.monotonic()

    def look(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.points.append(
            {
                "s": round(time.monotonic() - self._began, 1),
                "done": self.done,
                "rss_mib": round(pages * 4096 / 2**20, 1),
                "open_files": len(list(Path("/proc/self/fd").iterdir())) - 1,
            }
        )

    @contextlib.contextmanager
    def each_second(self) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(1.0):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        self.look()
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.look()


def candidates(watch: Watch, count: int, minutes: float) -> dict[str, Any]:
    """One search in the default space with that many candidates; stops after the minutes at the latest."""
    from hwnas.search import load_run, search
    from hwnas.space import SearchSpace

    until = time.monotonic() + 60 * minutes

    def progress(*state: Any) -> None:
        watch.done = next((part for part in state if isinstance(part, int)), watch.done)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with watch.each_second():
            search(
                SearchSpace.default(),
                device="rpi4",
                budget_ms=20,
                accuracy="published",
                trials=count,
                sampler="random",
                out=out,
                progress=progress,
                stop=lambda: time.monotonic() > until,
            )
        began = time.monotonic()
        recorded = len(load_run(out).trials)
        return {
            "candidates": recorded,
            "record_mib": round((out / "candidates.jsonl").stat().st_size / 2**20, 1),
            "reading_it_s": round(time.monotonic() - began, 1),
        }


def searches(watch: Watch, count: int, minutes: float) -> dict[str, Any]:
    """Searches of 200 candidates, each in a folder of its own, with its report."""
    from search_fakes import cheap_by_size, small_space, table

    from hwnas.report import write_report
    from hwnas.search import load_run, search

    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            out = Path(folder) / str(number)
            search(
                small_space(),
                device=table(),
                budget_ms=0.9,
                accuracy=cheap_by_size,
                trials=200,
                seed=number,
                out=out,
            )
            write_report(load_run(out))
            watch.done = number + 1
            watch.look()
    return {"searches": count}


def table(watch: Watch, count: int, minutes: float) -> dict[str, Any]:
    """Builds a table of the default space on this machine, with ONNX Runtime and one thread."""
    import datetime

    from hwnas.measure.build import build_table
    from hwnas.measure.networks import exporter_for
    from hwnas.measure.plan import make_plan
    from hwnas.measure.remote.hosts import LOCAL, start_link
    from hwnas.space import SearchSpace

    def progress(_phase: str, done: int, _total: int, _item: str) -> None:
        watch.done = done

    plan = make_plan(SearchSpace.default(), networks=12, passes=3, minutes=minutes)
    with tempfile.TemporaryDirectory() as folder, watch.each_second():
        build_table(
            plan,
            name="soak",
            runtime="onnxruntime",
            threads=1,
            batch=1,
            precision="fp32",
            exporter=exporter_for("onnxruntime", "fp32"),
            start=start_link(LOCAL, "onnxruntime", say=lambda text: None),
            samples=Path(folder) / "soak.samples",
            created=datetime.date.today().isoformat(),
            progress=progress,
        )
    return {"cells": plan.cells, "planned_minutes": minutes}


KINDS: dict[str, Callable[[Watch, int, float], dict[str, Any]]] = {
    "candidates": candidates,
    "searches": searches,
    "table": table,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures and the curve")
    options = parser.parse_args()
    watch = Watch()
    began = time.monotonic()
    found = KINDS[options.kind](watch, options.count, options.minutes)
    points = watch.points
    half = points[len(points) // 2]
    found |= {
        "kind": options.kind,
        "seconds": round(time.monotonic() - began, 1),
        "rss_mib": {"first": points[0]["rss_mib"], "half": half["rss_mib"], "last": points[-1]["rss_mib"]},
        "open_files": {
            "first": points[0]["open_files"],
            "most": max(point["open_files"] for point in points),
            "last": points[-1]["open_files"],
        },
    }
    print(json.dumps(found))
    if options.out:
        step = max(1, len(points) // MOST_POINTS)
        options.out.write_text(json.dumps(found | {"curve": points[::step]}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
