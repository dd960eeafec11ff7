"""A Python with the runtime on a board: where it is looked for, and why none can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.board import install, lease, watch

THERE = (
    "def probe():\n    return {'version': '1', 'provider': 'cpu', 'providers': ['cpu'], 'missing': None}\n"
)
IN_OWN = """\
import sys
PACKAGES = ("fake",)
def probe():
    missing = None if "venv-fake" in sys.prefix else "pip install fake"
    return {"version": "1", "provider": "cpu", "providers": ["cpu"], "missing": missing}
"""
PACKAGES = "PACKAGES = ('fake-runtime',)\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return tmp_path / "fake.py"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Environments are made, and nothing is installed into them; the commands are kept."""
    commands: list[list[str]] = []

    def run(command: list[str], name: str) -> None:
        commands.append(command)
        if name == "python -m venv":
            subprocess.run([*command, "--without-pip"], check=True)

    monkeypatch.setattr(install, "_run", run)
    monkeypatch.delenv("HWNAS_PYTHON", raising=False)
    return commands


def test_a_runtime_that_is_there_is_taken_and_nothing_is_made(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]]
) -> None:
    plugin.write_text(THERE)
    ready = install.ready("fake", str(plugin), tmp_path / "cache")
    assert ready["python"] == sys.executable
    assert not no_pip and not (tmp_path / "cache").exists()


def test_a_missing_one_goes_into_an_environment_of_its_own_once(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]]
) -> None:
    plugin.write_text(IN_OWN + PACKAGES)
    said: list[str] = []
    first = install.ready("fake", str(plugin), tmp_path, say=said.append)
    assert first["python"] == str(install.environment_folder("fake", tmp_path) / "bin/python")
    assert no_pip[1][-2:] == ["numpy", "fake-runtime"] and "--only-binary=:all:" in no_pip[1]
    assert said[1] == "installing numpy fake-runtime into it"
    assert install.ready("fake", str(plugin), tmp_path) == first
    assert len(no_pip) == 2


def test_a_plug_in_that_names_no_packages_installs_nothing(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]]
) -> None:
    """Its own name may be a package of somebody else."""
    plugin.write_text(IN_OWN.replace('PACKAGES = ("fake",)\n', ""))
    with pytest.raises(install.InstallError, match=r"installed by hand.* add PACKAGES = .* to fake.py"):
        install.ready("fake", str(plugin), tmp_path)
    assert not no_pip


def test_an_environment_that_was_not_finished_is_made_anew(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]]
) -> None:
    plugin.write_text(IN_OWN + PACKAGES)
    torn = install.environment_folder("fake", tmp_path)
    torn.mkdir(parents=True)
    (torn / "half").touch()
    install.ready("fake", str(plugin), tmp_path)
    assert not (torn / "half").exists()


def test_nothing_is_installed_into_a_python_that_the_user_chose(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.write_text(IN_OWN + PACKAGES)
    monkeypatch.setenv("HWNAS_PYTHON", sys.executable)
    with pytest.raises(install.InstallError, match="lacks it: pip install fake"):
        install.ready("fake", str(plugin), tmp_path)
    assert not no_pip


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import os, signal\ndef probe():\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
        (
            "def probe():\n    raise OSError('libgomp.so.1: cannot open')\n",
            "OSError: libgomp.so.1: cannot open",
        ),
        ("def probe(:\n", "SyntaxError: invalid syntax"),
    ],
)
def test_a_runtime_that_dies_is_told_and_kills_nobody_else(plugin: Path, code: str, cause: str) -> None:
    plugin.write_text(code)
    found = install.probe(sys.executable, str(plugin))
    assert found["missing"] == f"loading it fails with {cause}"
    assert found["crashed"] == cause


def test_what_a_runtime_prints_while_it_loads_is_not_its_answer(plugin: Path) -> None:
    plugin.write_text(
        "print('HWNAS-PROBE is not this')\n" + THERE + "import atexit\natexit.register(print, 'bye')\n"
    )
    assert install.probe(sys.executable, str(plugin))["version"] == "1"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "Retrying ... NewConnectionError: Failed to establish a new connection",
            "Does the board have internet",
        ),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "its disk is full"),
        ("The virtual environment was not created: ensurepip is not available", "apt install python3-venv"),
        ("ERROR: No matching distribution found for onnxruntime", "no ready-made package for Python 3"),
        ("Collecting numpy\nERROR: something else\n\n", "ERROR: something else"),
        ("", "no reason given"),
    ],
)
def test_the_reason_is_found_in_what_pip_says(said: str, why: str) -> None:
    with pytest.raises(install.InstallError, match=why):
        install._run([sys.executable, "-c", f"import sys; sys.exit(print({said!r}) or 1)"], "pip install x")


def test_a_full_disk_is_found_before_anything_is_made(
    plugin: Path, tmp_path: Path, no_pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.write_text(IN_OWN + PACKAGES)
    monkeypatch.setattr(install, "FREE_MIB", 10**9)
    with pytest.raises(install.InstallError, match="needs 1000000000 MiB free on the board"):
        install.ready("fake", str(plugin), tmp_path)
    assert not no_pip


# --- the lease and the watches ---


def test_a_lease_is_one_hosts_until_its_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "lease"
    code = (
        "import sys; from pathlib import Path; from hwnas.board.lease import Lease; "
        "print(Lease(Path(sys.argv[1])).take('marie@laptop', 's1'), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "None\n"
        held = lease.Lease(file).take("me", "s2")
        assert held is not None and (held["by"], held["pid"]) == ("marie@laptop", other.pid)
        assert lease.holder(file) == held
    assert lease.holder(file) is None
    assert lease.Lease(file).take("me", "s2") is None


def test_a_host_takes_the_lease_from_its_own_lost_process(tmp_path: Path) -> None:
    file = tmp_path / "lease"
    code = (
        "import os, sys, time; os.setpgid(0, 0); from pathlib import Path; "
        "from hwnas.board.lease import Lease; "
        "print(Lease(Path(sys.argv[1])).take('me', 's1'), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True) as lost:
        assert lost.stdout is not None and lost.stdout.readline() == "None\n"
        assert lease.Lease(file).take("me", "s1") is None
        assert lost.wait(5) == -9


def test_a_lease_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("somebody's file")
    (tmp_path / "lease").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic link"):
        lease.Lease(tmp_path / "lease")


def test_a_process_ends_when_its_input_closes_and_not_before() -> None:

    ended: list[Any] = []
    reader, writer = os.pipe()
    os.write(writer, b"a command that nobody has read yet")
    thread = watch.end_with_input(reader, grace_s=0.0, end=ended.append)
    thread.join(0.2)
    assert thread.is_alive() and not ended
    os.close(writer)
    thread.join(5)
    assert ended == [watch.INPUT_CLOSED]
    os.close(reader)
