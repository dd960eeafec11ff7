"""A board that throttles, seen by the agent over a real link: what was timed meanwhile does not count.

The board's `vcgencmd`, which tells a Raspberry Pi's throttling bits, is a program of ours on its PATH.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from board import sshd
from board.test_link import programs
from hwnas.measure.adaptive import MeasuredCells, measure_plan
from hwnas.measure.build import measured_profile
from hwnas.measure.cells import passes_of
from hwnas.measure.noise import noise_of
from hwnas.measure.plan import Plan
from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.link import Link, plugin_file
from hwnas.measure.remote.ssh_board import SshBoard, SshLink
from hwnas.space import OpSpec, preset

OPS = tuple(OpSpec("dw", (("c", c), ("side", 14))) for c in (64, 96, 128))
ATTEMPTS = 4
"""The first one and three retries."""


def measured(host: SshBoard, folder: Path, sleeps: list[float]) -> MeasuredCells:
    """Three ops, timed on the board by the real runtime; pauses are noted, not slept."""
    pytest.importorskip("torch")
    from hwnas.export.timing import exporter

    plan = Plan(
        ops=OPS,
        filled=(),
        drawn=(),
        spread=(),
        companion=("companion", preset("uniform-t").adapted(resolution=64, classes=10)),
        passes=1,
        seed=0,
    )

    def start() -> Link:
        return LastingLink(lambda: SshLink(host, "onnxruntime"))

    profile, _ = measured_profile(start, runtime="onnxruntime", threads=1, batch=1, precision="fp32")
    return measure_plan(
        plan,
        name="pi",
        profile=profile,
        exporter=exporter("onnxruntime", "fp32"),
        start=start,
        samples=folder / "pi.samples",
        elsewhere=True,
        sleep=sleeps.append,
    )


def throttling(folder: Path, new_board: Callable[..., sshd.Board], *, answers: int) -> sshd.Board:
    """A board that is too hot the first `answers` times that it is asked, and then no more."""
    count = folder / "asked"
    count.write_text("")
    (folder / "bin").mkdir()
    programs(
        folder / "bin",
        vcgencmd=f'echo >>"{count}"; if [ $(wc -l <"{count}") -le {answers} ]; '
        "then echo throttled=0xe000e; else echo throttled=0xe0000; fi",
    )
    return new_board(PATH=f"{folder / 'bin'}:{os.environ['PATH']}")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pi.samples").read_text().splitlines()[1:]]


def test_cells_timed_while_the_board_throttled_are_thrown_away_and_timed_again_when_it_is_cool(
    new_board: Callable[..., sshd.Board], reach: Callable[..., SshBoard], tmp_path: Path
) -> None:
    # Asked once with the environment, and then before and after each timing.
    board = throttling(tmp_path, new_board, answers=1 + 2 * len(OPS))
    sleeps: list[float] = []
    found = measured(reach(board, plugin=plugin_file), tmp_path, sleeps)
    hot = ["arm frequency capped", "throttled", "soft temperature limit"]
    first, later = records(tmp_path)[: len(OPS)], records(tmp_path)[len(OPS) :]
    assert [record["throttled"] for record in first] == [hot] * len(OPS)
    cool = {record["cell"]: record["median_ms"] for record in later if not record["throttled"]}
    assert cool.keys() == {op.key for op in OPS}
    # Other programs of this machine may disturb a cell as well; heat may not be what is kept.
    kept = passes_of(records(tmp_path), lambda name: False)
    assert {name: record["throttled"] for name, [(record, _)] in kept.items()} == {name: [] for name in cool}
    assert {name: timing.clock_passes_ms for name, timing in found.timings.items()} == {
        name: (record["median_ms"],) for name, [(record, _)] in kept.items()
    }
    assert len(sleeps) >= 1  # it was left to cool


def test_what_a_board_that_never_cools_took_is_marked(
    new_board: Callable[..., sshd.Board], reach: Callable[..., SshBoard], tmp_path: Path
) -> None:
    board = throttling(tmp_path, new_board, answers=10_000)
    sleeps: list[float] = []
    found = measured(reach(board, plugin=plugin_file), tmp_path, sleeps)
    noise = noise_of(found.timings, ())
    assert noise.reason == "3 of 3 cells stayed disturbed by other programs or heat"
    assert "noisy" in noise.facts()
    each = [record["cell"] for record in records(tmp_path)]
    assert all(each.count(op.key) >= ATTEMPTS for op in OPS)
    assert len(sleeps) >= ATTEMPTS - 1
