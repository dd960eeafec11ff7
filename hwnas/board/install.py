"""A Python on the board that has the runtime: one that is there, or a virtual environment made here.

Boards refuse to install into the system's Python, so what is missing goes into an environment under
~/.cache/hwnas. A runtime is always tried in a process of its own: stock wheels have crashed boards'
CPUs on import.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FREE_MIB", "InstallError", "environment_folder", "packages", "probe", "ready"]

FREE_MIB = 700
"""What an environment with numpy and a runtime may take, and its downloads."""
_PROBE_S = 180
_PIP_S = 1800
_MARK = "HWNAS-PROBE "
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?([<>=!~]=?[0-9A-Za-z.*,<>=!~]+)?"
)
_PROBE = (
    "import json, sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import load_runtime; "
    "found = load_runtime(sys.argv[2]).probe(); print(sys.argv[3] + json.dumps(found))"
)


class InstallError(Exception):
    """The board cannot be made ready; the message says why and what to do on the board."""


def ready(
    runtime: str, plugin: str, cache: Path, *, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """{"python": path, "runtime": what its probe says}: the first Python that has the runtime.

    In this order: $HWNAS_PYTHON if the board sets it (nothing is ever installed there), the
    environment made before, the Python this runs on, a new environment. `say` is told what takes
    long. Raises InstallError.
    """
    chosen = os.environ.get("HWNAS_PYTHON")
    if chosen:
        found = probe(chosen, plugin)
        if found["missing"]:
            raise InstallError(f"HWNAS_PYTHON on the board is {chosen}, which lacks it: {found['missing']}")
        return {"python": chosen, "runtime": found}
    own = environment_folder(runtime, cache)
    finished = own / "hwnas-ready"
    pythons = ([str(own / "bin/python")] if finished.exists() else []) + [sys.executable]
    for python in pythons:
        found = probe(python, plugin)
        if not found["missing"]:
            return {"python": python, "runtime": found}
        if found.get("crashed") and python != sys.executable:
            raise InstallError(_crash_text(runtime, python, found))
    wanted = packages(runtime, plugin)
    _make(own, [*wanted], say)
    finished.touch()
    python = str(own / "bin/python")
    found = probe(python, plugin)
    if found.get("crashed"):
        raise InstallError(_crash_text(runtime, python, found))
    if found["missing"]:
        raise InstallError(f"was installed into {own}, but does not load: {found['missing']}")
    return {"python": python, "runtime": found}


def probe(python: str, plugin: str) -> dict[str, Any]:
    """What the plug-in's `probe` says under that Python, asked in a process of its own.

    Where that process dies, `missing` says so and `crashed` names the signal or the error.
    """
    root = Path(__file__).resolve().parents[2]
    command = [python, "-c", _PROBE, str(root), plugin, _MARK]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return _died(f"taking more than {_PROBE_S} s")
    except OSError as error:
        return _died(f"{python}: {error.strerror}")
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK) and done.returncode == 0:
            found: dict[str, Any] = json.loads(line[len(_MARK) :])
            return found
    if done.returncode < 0:
        return _died(signal.Signals(-done.returncode).name)
    lines = done.stderr.strip().splitlines()
    return _died(lines[-1] if lines else f"exit code {done.returncode}")


def environment_folder(runtime: str, cache: Path) -> Path:
    """The runtime's environment; of this Python's version, which an upgraded system would break."""
    return cache / f"venv-{runtime}-{sys.version_info[0]}.{sys.version_info[1]}"


def packages(runtime: str, plugin: str) -> tuple[str, ...]:
    """What pip is to install: the plug-in's PACKAGES, and numpy.

    Raises InstallError when it has none, or one that is no requirement: a name of the plug-in's own is never
    asked for, anyone may have published a package under it.
    """
    spec = importlib.util.spec_from_file_location("hwnas_plugin", plugin)
    if spec is None or spec.loader is None:
        raise InstallError(f"cannot be loaded from '{plugin}'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    own = getattr(module, "PACKAGES", ())
    if not own or not all(isinstance(name, str) and _REQUIREMENT.fullmatch(name) for name in own):
        raise InstallError(
            f"must be installed by hand: its plug-in names no packages (PACKAGES = {own!r}). On the board, "
            f"install {runtime} into a Python and name that Python in HWNAS_PYTHON, or add PACKAGES = (...) "
            f"to {Path(plugin).name}"
        )
    return ("numpy", *(name for name in own if name != "numpy"))


def _make(folder: Path, wanted: list[str], say: Callable[[str], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    free_mib = shutil.disk_usage(folder.parent).free // 2**20
    if free_mib < FREE_MIB:
        raise InstallError(f"needs {FREE_MIB} MiB free on the board, {folder.parent} has {free_mib}")
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise InstallError("needs a virtual environment: on the board, 'sudo apt install python3-venv'")
    shutil.rmtree(folder, ignore_errors=True)
    say(f"making a virtual environment on the board: {folder}")
    _run([sys.executable, "-m", "venv", str(folder)], "python -m venv")
    say(f"installing {' '.join(wanted)} into it")
    # No building from source: on a board that takes hours, or all memory.
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--no-input", "--only-binary=:all:"]
    # Most of it is never imported; compiling that takes a board longer than installing the rest.
    pip += ["--no-compile"]
    _run([*pip, "--disable-pip-version-check", *wanted], f"pip install {' '.join(wanted)}")


def _run(command: list[str], name: str) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PIP_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"'{name}' took more than {_PIP_S // 60} minutes on the board") from None
    if done.returncode:
        raise InstallError(f"'{name}' failed on the board: {_why(done.stdout)}")


def _why(said: str) -> str:
    """The reason in what pip or venv said."""
    if re.search("name resolution|Network is unreachable|Failed to establish|timed out", said):
        return "it does not reach the package index. Does the board have internet?"
    if "No space left" in said:
        return "its disk is full"
    if "ensurepip" in said:
        return "'sudo apt install python3-venv' is needed"
    if "No matching distribution" in said or "Could not find a version" in said:
        system = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine}"
        return f"there is no ready-made package for {system}"
    lines = [line for line in said.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no reason given"])[-1].strip()


def _died(cause: str) -> dict[str, Any]:
    return {
        "version": None,
        "provider": None,
        "providers": [],
        "missing": f"loading it fails with {cause}",
        "crashed": cause,
    }


def _crash_text(runtime: str, python: str, found: dict[str, Any]) -> str:
    return (
        f"is installed on the board, but loading it fails with {found['crashed']}: this version does not "
        f"run on its CPU. Try an older one, on the board: {python} -m pip install '{runtime}<VERSION'"
    )
