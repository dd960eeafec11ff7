"""The agent on the Pythons that boards have, over a real link: each makes its own environment and measures.

3.9 is the oldest; 3.10 is JetPack 6's, 3.12 JetPack 7's, 3.13 Raspberry Pi OS's. Those that this machine
has, on its PATH or from pyenv, are tried.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from board import sshd
from board.conftest import RUNTIME
from board.test_link import only, programs
from board.test_several import start
from hwnas.measure.remote.ssh_board import SshBoard, SshLink

pytestmark = pytest.mark.timeout(240)
TOOLS = ("sh", "cat", "uname")
OLD_RUNTIME = ("onnxruntime==1.10.0", "numpy<2")
"""Of December 2021: reads models up to opset 15."""


def python(version: str) -> str:
    """That Python's path; skips where it is not here."""
    found = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [found or "", *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python{version}")))]
    for place in places:
        if place and not subprocess.run([place, "-c", "import ensurepip"], capture_output=True).returncode:
            return place
    pytest.skip(f"there is no Python {version} here")


def with_python(new_board: Callable[..., sshd.Board], folder: Path, version: str) -> sshd.Board:
    """A board whose python3 is of that version, and which has neither numpy nor a runtime."""
    path = only(folder / "bin", *TOOLS, python3=f'exec "{python(version)}" "$@"')
    return new_board(PATH=path, HWNAS_PYTHON="", **sshd.package_index())


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("3.9", marks=pytest.mark.slow),
        *(pytest.param(newer, marks=pytest.mark.long) for newer in ("3.10", "3.12", "3.13")),
    ],
)
def test_a_network_is_measured_on_a_board_with_that_python(
    version: str, new_board: Callable[..., sshd.Board], tmp_path: Path
) -> None:
    board = with_python(new_board, tmp_path, version)
    process = start(
        tmp_path, board.config, "measure", "shvit-s1", "--host", sshd.HOST, "--rounds", "1", "--json"
    )
    out, complaint = process.communicate()
    if "does not reach the package index" in complaint:
        pytest.skip("the package index cannot be reached")
    assert process.returncode == 0, complaint
    document = json.loads(out)
    assert document["environment"]["python"].startswith(f"{version}.")
    assert document["networks"][0]["measured_ms"] > 0.1
    assert (board.home / f".cache/hwnas/venv-onnxruntime-{version}").is_dir()
    assert not board.processes()


def test_a_board_whose_python_is_really_3_8_is_refused(
    new_board: Callable[..., sshd.Board], tmp_path: Path
) -> None:
    board = with_python(new_board, tmp_path, "3.8")
    process = start(tmp_path, board.config, "doctor", "--host", sshd.HOST)
    out, _ = process.communicate()
    assert process.returncode == 2
    assert "BLOCKING  board has Python 3.8; 3.9 or newer is needed" in out


@pytest.mark.slow
def test_an_onnx_runtime_that_is_too_old_is_told_with_the_command_that_mends_it(
    new_board: Callable[..., sshd.Board], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    subprocess.run([python("3.9"), "-m", "venv", str(old)], check=True)
    made = subprocess.run(
        [str(old / "bin/python"), "-m", "pip", "install", "-q", "--only-binary=:all:", *OLD_RUNTIME],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"no old runtime can be installed here: {made.stderr.strip()[-300:]}")
    board = new_board(HWNAS_PYTHON=str(old / "bin/python"))
    measuring = start(tmp_path, board.config, "measure", "shvit-s1", "--host", sshd.HOST)
    _, complaint = measuring.communicate()
    assert measuring.returncode == 4
    said = " ".join(complaint.split())
    assert "onnxruntime>=1.12' (1.10.0 does not read opset 17)" in said
    examining = start(tmp_path, board.config, "doctor", "--host", sshd.HOST)
    out, _ = examining.communicate()
    assert examining.returncode == 2
    said = " ".join(out.split())
    assert "onnxruntime cannot be used there: pip install 'onnxruntime>=1.12' (1.10.0" in said
    assert f"on the board: {old}/bin/python -m pip install --upgrade numpy onnxruntime" in said


def test_the_python_that_is_named_in_the_first_line_of_bashrc_is_taken(
    new_board: Callable[..., sshd.Board], reach: Callable[..., SshBoard], tmp_path: Path
) -> None:
    if Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash":
        pytest.skip("whoever runs the tests logs in to another shell than bash")
    board = new_board(HWNAS_PYTHON="")
    named = tmp_path / "own-python"
    programs(tmp_path, **{named.name: f'exec "{sys.executable}" "$@"'})
    ends_without_a_terminal = "case $- in *i*) ;; *) return ;; esac"
    (board.home / ".bashrc").write_text(
        f"export HWNAS_PYTHON={named}\n{ends_without_a_terminal}\nexport HWNAS_PYTHON=/never/read\n"
    )
    host = reach(board)
    found = host.survey(RUNTIME)
    assert found["chosen"] == str(named)
    with SshLink(host, RUNTIME) as link:
        assert link.hello()["runtime"]["version"] == "1.0"
    assert not list((board.home / ".cache/hwnas").glob("venv-*"))
