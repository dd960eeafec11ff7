"""Several boards measured at once from one host, and a front verified on a board: real command lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from latency_fakes import small_space

from board import sshd
from hwnas.io import yaml as yaml_io
from hwnas.measure.build import measured_profile
from hwnas.measure.remote.link import LocalLink
from hwnas.predictors.latency import Coefficients, HeldOut, HeldOutNetwork, LatencyTable

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
NOISY = 5
"""The exit code of a build on a machine that others keep busy; what it measured is kept."""


def start(folder: Path, config: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hwnas", *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HWNAS_SSH_CONFIG": str(config),
            "HWNAS_TABLES": str(folder / "latency_tables"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_boards_are_measured_at_once_and_a_third_that_is_off_stops_neither(
    new_board: Callable[..., sshd.Board], tmp_path: Path
) -> None:
    boards = {name: new_board() for name in ("one", "two", "off")}
    config = tmp_path / "config"
    config.write_text(
        "".join(
            board.config.read_text().replace("Host board", f"Host {name}") for name, board in boards.items()
        )
    )
    boards["off"].stop()
    (tmp_path / "small.yaml").write_text(yaml_io.dump(small_space().to_dict()))
    small = ["--space", "small.yaml", "--ops", "all", "--networks", "4", "--passes", "1"]
    running = {
        name: start(tmp_path, config, "table", "build", "--name", f"my-{name}", "--host", name, *small)
        for name in boards
    }
    ended = {name: (process.communicate(), process.returncode) for name, process in running.items()}
    (_, complaint), code = ended.pop("off")
    assert code == 4
    assert "SSH connection refused by off" in complaint
    for name, ((_, complaint), code) in ended.items():
        tables = tmp_path / "latency_tables"
        samples = tables / f"my-{name}.samples" if code == 0 else tables / f"my-{name}.samples.part"
        assert code in (0, NOISY), complaint
        assert len(samples.read_text().splitlines()) > 20
        if code == 0:
            assert LatencyTable.load(tables / f"my-{name}.yaml").provenance == "measured"
        assert not boards[name].processes()


def test_a_front_is_verified_on_the_board_that_the_host_names(board: sshd.Board, tmp_path: Path) -> None:
    profile, _ = measured_profile(
        lambda: LocalLink("onnxruntime"), runtime="onnxruntime", threads=1, batch=1, precision="fp32"
    )
    made_up = LatencyTable(
        name="loop",
        profile=profile,
        provenance="measured",
        coefficients=Coefficients((1e-7, 1e-7, 1e-7, 0.0, 0.0, 0.01)),
        heldout=HeldOut(tuple(HeldOutNetwork(str(n), 1.0, 0.9 + n / 100) for n in range(20))),
    )
    (tmp_path / "latency_tables").mkdir()
    made_up.save(tmp_path / "latency_tables" / "loop.yaml")
    (tmp_path / "small.yaml").write_text(yaml_io.dump(small_space().to_dict()))
    process = start(
        tmp_path, board.config, "search", "--device", "loop", "--budget", "1000ms", "--space", "small.yaml",
        "--trials", "30", "--accuracy", "published", "--out", "run", "--verify", "--verify-networks", "2",
        "--host", sshd.HOST, "--json",
    )  # fmt: skip
    out, complaint = process.communicate()
    assert process.returncode == 0, complaint
    front = json.loads(out)["front"]
    assert front and all(0 < network["measured_ms"] < 1000 for network in front)
    agents = list((board.home / ".cache/hwnas").iterdir())
    assert len(agents) == 1  # it was this board that measured, not this machine beside it
    assert not board.processes()
