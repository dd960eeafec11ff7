"""hwnas doctor --host: what a board lacks, over a real ssh server; and findings for boards made up."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from board import sshd
from board.test_link import only
from hwnas import plugins
from hwnas.doctor import Finding, runtimes
from hwnas.doctor.board import findings

HEALTHY: dict[str, Any] = {
    "environment": {
        "board": "Raspberry Pi 5 Model B Rev 1.0",
        "cpu": "0xd0b",
        "cores": 4,
        "governor": "performance",
        "temperature_c": 51.0,
        "throttled_bits": 0,
        "load": 0.1,
    },
    "system": "Debian GNU/Linux 13 (trixie)",
    "machine": "aarch64",
    "python": "3.13.5",
    "venv": True,
    "cache": "/home/pi/.cache/hwnas",
    "writable": True,
    "free_mib": 20000,
    "available_mib": 3000,
    "held": None,
    "gpu": False,
    "chosen": None,
    "packages": ["numpy", "onnxruntime"],
    "runtimes": [
        {
            "version": "1.23.2",
            "providers": ["CPUExecutionProvider"],
            "missing": None,
            "python": "/venv/python",
        }
    ],
}
ABSENT = {
    "version": None,
    "providers": [],
    "missing": "pip install onnxruntime",
    "python": "/usr/bin/python3",
}


def found(**changed: Any) -> list[Finding]:
    environment = {**HEALTHY["environment"], **changed.pop("environment", {})}
    survey = {**HEALTHY, "environment": environment, **changed}
    return [
        finding for finding in findings(survey, host="pi@pi5", runtime="onnxruntime") if finding.level != "ok"
    ]


def test_a_healthy_board_has_no_trouble() -> None:
    assert found() == []


def test_a_runtime_that_is_not_there_yet_is_installed_by_the_first_measurement() -> None:
    (finding,) = found(runtimes=[ABSENT])
    assert finding.level == "note"
    assert "installs numpy onnxruntime there" in finding.what
    assert finding.mend == "hwnas table build --name NAME --host pi@pi5 --runtime onnxruntime"


@pytest.mark.parametrize(
    ("changed", "level", "what", "mend"),
    [
        (
            {"runtimes": [ABSENT], "venv": False},
            "blocking",
            "virtual environment",
            "apt install python3-venv",
        ),
        (
            {"runtimes": [{**ABSENT, "crashed": "SIGILL", "python": "/venv/python"}]},
            "blocking",
            "fails with SIGILL",
            "/venv/python -m pip install 'onnxruntime<VERSION'",
        ),
        (
            {"runtimes": [ABSENT], "chosen": "/opt/py"},
            "blocking",
            "HWNAS_PYTHON on the board is /opt/py",
            "/opt/py -m pip install --upgrade numpy onnxruntime",
        ),
        ({"gpu": True}, "note", "measures on the CPU only", "NVIDIA's package for your JetPack"),
        ({"free_mib": 20}, "blocking", "20 MiB left", "apt clean"),
        ({"runtimes": [ABSENT], "free_mib": 300}, "blocking", "300 MiB left, 700", "apt clean"),
        ({"writable": False}, "blocking", "cannot be written", "chown"),
        ({"available_mib": 90}, "warning", "90 MiB of memory", "swap"),
        (
            {"environment": {"governor": "ondemand"}},
            "warning",
            "'ondemand'",
            "on the board: echo performance",
        ),
        ({"environment": {"temperature_c": 82.0}}, "warning", "82 °C", "fan"),
        ({"environment": {"throttled_bits": 0x50005}}, "warning", "under-voltage, throttled", "power supply"),
        (
            {"environment": {"throttled_bits": 0x10000}},
            "note",
            "since its last start.*under-v",
            "power supply",
        ),
        ({"environment": {"load": 2.5}}, "warning", "load 2.5 on 4 cores", "top"),
    ],
)
def test_what_a_board_lacks_comes_with_what_mends_it(
    changed: dict[str, Any], level: str, what: str, mend: str
) -> None:

    finding = next(one for one in found(**changed) if one.level == level)
    assert re.search(what, finding.what)
    assert mend in finding.mend


def test_who_measures_on_the_board_is_told() -> None:
    (finding,) = found(held={"by": "marie@laptop", "since_s": 0.0, "pid": 7})
    assert finding.what.startswith("marie@laptop has measured on the board since")


@pytest.mark.parametrize(
    ("probe", "level", "what", "mend"),
    [
        ({**HEALTHY["runtimes"][0], "version": "2026.1"}, "ok", "openvino 2026.1 with CPU", ""),
        (ABSENT, "note", "openvino is not on the board; it needs numpy openvino", "--runtime openvino"),
        ({**ABSENT, "crashed": "SIGILL"}, "note", "loading it fails with SIGILL", "openvino<VERSION"),
    ],
)
def test_the_other_runtimes_are_listed_too(probe: dict[str, Any], level: str, what: str, mend: str) -> None:
    survey = {**HEALTHY, "packages": ["numpy", "openvino"], "runtimes": [probe]}
    (finding,) = runtimes.on_board({"openvino": survey}, host="pi@pi5")
    assert finding.level == level
    assert what in finding.what and mend in finding.mend


# --- over a real link ---


@pytest.mark.slow
def test_a_board_over_ssh_is_examined(
    board: sshd.Board, hwnas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_SSH_CONFIG", str(board.config))
    answer = hwnas("doctor", "--host", sshd.HOST, "--json")
    document = json.loads(answer.out)
    assert (answer.code, document["ready"]) == (0, True), answer
    said = [finding["what"] for finding in document["findings"]]
    assert said[0].startswith("board is ")
    assert any(line.startswith("onnxruntime 1.") and sys.executable in line for line in said)
    for name in plugins.names("runtimes"):
        assert any(line.startswith(name) for line in said), name


def test_an_unreachable_board_exits_with_4(
    board: sshd.Board, hwnas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_SSH_CONFIG", str(board.config))
    board.stop()
    answer = hwnas("doctor", "--host", sshd.HOST)
    assert answer.code == 4
    assert "SSH connection refused" in answer.err and answer.out == ""


def test_an_old_python_blocks_and_says_what_to_install(
    new_board: Callable[..., sshd.Board],
    hwnas: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = only(tmp_path / "bin", "sh", "cat", "uname", python3="echo 3.8.10 64 /usr/bin/python3")
    monkeypatch.setenv("HWNAS_SSH_CONFIG", str(new_board(PATH=path, HWNAS_PYTHON="").config))
    answer = hwnas("doctor", "--host", sshd.HOST)
    assert answer.code == 2
    assert "BLOCKING  board has Python 3.8; 3.9 or newer is needed" in answer.out
    assert "-> On the board, run 'sudo apt install python3.9 python3.9-venv'" in answer.out
