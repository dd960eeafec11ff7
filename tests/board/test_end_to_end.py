"""A board from nothing to a search: hwnas sets it up, measures it, and searches with its table.

The board is this machine over ssh on loopback, with a Python that has no runtime at first.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from latency_fakes import small_space

from board import sshd
from board.conftest import needs_sshd
from hwnas.io import yaml as yaml_io
from hwnas.predictors.latency import LatencyTable

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Board]:
    """A board with the system's Python alone, which has neither numpy nor a runtime."""
    needs_sshd()
    made = sshd.Board(
        tmp_path_factory.mktemp("board"),
        {"HWNAS_PYTHON": "", "PATH": "/usr/local/bin:/usr/bin:/bin", **sshd.package_index()},
    )
    yield made
    made.end()


@pytest.fixture
def run(board: sshd.Board, tmp_path: Path) -> Run:
    """`run("doctor", ...)`: a command line in a process of its own, with the board as --host."""

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hwnas", *words],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "HWNAS_SSH_CONFIG": str(board.config),
                "HWNAS_TABLES": str(tmp_path / "latency_tables"),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_a_bare_board_is_set_up_by_the_first_measurement(board: sshd.Board, run: Run) -> None:
    before = run("doctor", "--host", sshd.HOST)
    if "is not on the board yet" not in before.stdout:
        pytest.skip(f"the system's Python cannot be set up: {before.stdout}{before.stderr}")
    measured = run("measure", "shvit-s1", "--host", sshd.HOST, "--rounds", "1", "--json")
    if "does not reach the package index" in measured.stderr:
        pytest.skip("the package index cannot be reached")
    assert measured.returncode == 0, measured.stderr
    document = json.loads(measured.stdout)
    assert document["runtime"] == "onnxruntime"
    assert document["networks"][0]["measured_ms"] > 0.1
    assert "installing numpy onnxruntime" in measured.stderr
    after = run("doctor", "--host", sshd.HOST)
    assert "CPUExecutionProvider" in after.stdout and "/.cache/hwnas/venv-onnxruntime-3." in after.stdout
    assert not board.processes()


def test_a_table_is_built_over_ssh_and_searched_with(board: sshd.Board, run: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml_io.dump(small_space().to_dict()))
    build = ["table", "build", "--name", "loop", "--host", sshd.HOST, "--space", "small.yaml"]
    done = run(*build, "--ops", "all", "--networks", "8", "--passes", "1")
    if "does not reach the package index" in done.stderr:
        pytest.skip("the package index cannot be reached")
    for _ in range(2):
        if done.returncode == 5:  # the machine was too noisy: what was measured is kept
            done = run(*build, "--ops", "all", "--networks", "8", "--passes", "1", "--resume")
    if done.returncode == 5:
        pytest.skip(f"this machine is too noisy to measure on: {done.stderr}")
    assert done.returncode == 0, done.stderr
    table = LatencyTable.load(tmp_path / "latency_tables" / "loop.yaml")
    assert table.provenance == "measured"
    assert len(table.rows) > 20
    random_ms = [table.predict(small_space().sample(random.Random(seed))).value for seed in range(20)]
    budget_ms = max(random_ms)
    found = run(
        "search", "--device", "loop", "--budget", f"{budget_ms}ms", "--space", "small.yaml",
        "--trials", "30", "--json", "--accuracy", "published",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    front = json.loads(found.stdout)["front"]
    assert front and all(network["latency_ms"] <= budget_ms for network in front)


def test_a_few_networks_measured_over_ssh_turn_an_estimated_table_into_the_boards_own(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(yaml_io.dump(small_space().to_dict()))
    transfer = [
        "table", "transfer", "--name", "own", "--host", sshd.HOST, "--space", "small.yaml",
        "--from", "rpi4", "--samples", "6", "--passes", "1",
    ]  # fmt: skip
    done = run(*transfer)
    if "does not reach the package index" in done.stderr:
        pytest.skip("the package index cannot be reached")
    for _ in range(2):
        if done.returncode == 5:  # the machine was too noisy: what was measured is kept
            done = run(*transfer, "--resume")
    if done.returncode == 5:
        pytest.skip(f"this machine is too noisy to measure on: {done.stderr}")
    assert done.returncode == 0, done.stderr
    table = LatencyTable.load(tmp_path / "latency_tables" / "own.yaml")
    assert table.provenance == "transferred"
    assert table.profile.runtime == "onnxruntime" and len(table.heldout) == 6
    measured = run("measure", "uniform-t", "--device", "own", "--host", sshd.HOST, "--rounds", "1", "--json")
    assert measured.returncode == 0, measured.stderr
    (network,) = json.loads(measured.stdout)["networks"]
    assert 0.2 < network["predicted_ms"] / network["measured_ms"] < 5
