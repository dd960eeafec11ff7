"""What is missing or odd on this machine, and the command that fixes it.

A check is a function from a `Machine` to what it found. Nothing is changed, and what could crash
(the import of a runtime) runs in a process of its own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hwnas.board import guards
from hwnas.doctor import runtimes, state
from hwnas.doctor.finding import Finding
from hwnas.doctor.machine import Machine

__all__ = ["CHECKS", "examine"]

MINIMUM_PYTHON = (3, 11)
FREE_MIB = 200


def examine(machine: Machine | None = None) -> tuple[Finding, ...]:
    """What all checks found, in their order; slow ones run side by side."""
    machine = Machine() if machine is None else machine
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        found = list(pool.map(lambda check: tuple(check(machine)), CHECKS))
    return tuple(finding for findings in found for finding in findings)


# --- checks ----------------------------------------------------------------------------------


def python(machine: Machine) -> Iterable[Finding]:
    """Python is new enough, and pip may install."""
    version = ".".join(map(str, machine.python))
    if machine.python < MINIMUM_PYTHON:
        wanted = ".".join(map(str, MINIMUM_PYTHON))
        yield Finding(
            "blocking",
            f"hwnas needs Python {wanted} or newer, this is {version}",
            f"install Python {wanted}, then: python{wanted} -m venv .venv",
        )
    else:
        yield Finding("ok", f"Python {version} on {machine.architecture}")
    if machine.managed:
        yield Finding(
            "note",
            "this Python belongs to the system: pip refuses to install into it",
            "python3 -m venv .venv && . .venv/bin/activate",
        )
    if machine.architecture in ("armv6l", "armv7l"):
        yield Finding(
            "warning",
            "a 32-bit Arm system: ONNX Runtime has no wheel for it",
            "install a 64-bit system (Raspberry Pi OS 64-bit)",
        )


def import_name(machine: Machine) -> Iterable[Finding]:
    """No other distribution installs files under the name hwnas."""
    others = [owner for owner in machine.owners() if owner.lower() != "hwnas"]
    for other in others:
        yield Finding(
            "blocking",
            f"the package '{other}' installs files under the import name hwnas, over or beside these",
            f"pip uninstall -y {other} hwnas, then install hwnas again: files of the two are mixed",
        )
    if not others:
        yield Finding("ok", "the import name hwnas belongs to hwnas alone")


def packages(machine: Machine) -> Iterable[Finding]:
    """What hwnas asks for is installed, and new enough."""
    wanted: dict[str, list[tuple[str, str]]] = {}
    for line in machine.requirements():
        required = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9.]+))?", line)
        marked = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if required and required.group(1) != "hwnas":
            wanted.setdefault(marked.group(1) if marked else "", []).append(
                (required.group(1), required.group(2) or "0")
            )
    for extra, use, level in (
        ("", "the main job", "blocking"),
        ("torch", "building, training, exporting and measuring networks", "warning"),
    ):
        missing, old, newer = [], [], []
        for name, minimum in wanted.get(extra, []):
            version = machine.version_of(name)
            if version is None:
                missing.append(name)
            elif _numbers(version) < _numbers(minimum):
                old.append(f"{name} {version} (needs {minimum} or newer)")
                newer.append(f"'{name}>={minimum}'")
        if missing:
            yield Finding(
                level,
                f"{use} needs packages that are not installed: {', '.join(missing)}",
                _install_command(machine, extra),
            )
        if old:
            yield Finding(
                level,
                f"{use} needs newer packages: {', '.join(old)}",
                f"pip install --upgrade {' '.join(newer)}",
            )
        if not missing and not old:
            yield Finding("ok", f"the packages for {use} are installed")


def torch(machine: Machine) -> Iterable[Finding]:
    """torch can be imported, and sees the GPU if there is one."""
    installed = machine.version_of("torch")
    if installed is None:
        return
    result = machine.import_apart("import torch; print(torch.cuda.is_available())")
    if result.died_of:
        yield _import_died("torch", installed, result.died_of)
    elif result.printed[-1:] == ("True",):
        yield Finding("ok", f"torch {installed} sees a GPU")
    elif machine.has_nvidia_gpu:
        yield Finding(
            "warning",
            f"there is an NVIDIA GPU, but torch {installed} does not see it: training runs on the CPU",
            "check the driver with nvidia-smi, then: pip install --force-reinstall torch torchvision",
        )
    else:
        yield Finding("note", f"torch {installed}; no GPU here, training runs on the CPU")


def every_runtime(machine: Machine) -> Iterable[Finding]:
    """Each runtime is there with its providers, or can be installed."""
    yield from runtimes.here(machine.probe_runtimes(), gpu=machine.has_nvidia_gpu)


def clocks(machine: Machine) -> Iterable[Finding]:
    """Nothing changes the CPU's clock while something is timed."""
    yield state.governor(guards.governor(machine.root))
    for path, boosting, steady in (
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"),
        ("sys/devices/system/cpu/cpufreq/boost", "1", "0"),
    ):
        if _text(machine.root / path) == boosting:
            yield Finding(
                "note",
                "the CPU boosts its clock for a while: a long measurement gets slower as it warms up",
                f"echo {steady} | sudo tee /{path}",
            )


def heat(machine: Machine) -> Iterable[Finding]:
    """The machine is neither hot nor throttled."""
    seen = guards.state(machine.root)
    yield from state.heat(seen["temperature_c"], seen["throttled_bits"])


def folder(machine: Machine) -> Iterable[Finding]:
    """A run can be written here."""
    try:
        tempfile.TemporaryFile(dir=machine.folder).close()
    except OSError as error:
        yield Finding(
            "blocking", f"{machine.folder} cannot be written to: {error.strerror}", "use --out FOLDER"
        )
        return
    free_mib = shutil.disk_usage(machine.folder).free // 2**20
    if free_mib < FREE_MIB:
        yield Finding(
            "warning",
            f"the disk has {free_mib} MiB left, a run may need {FREE_MIB}",
            "make room, or use --out",
        )
    else:
        yield Finding("ok", "this folder can be written to")


def tables(machine: Machine) -> Iterable[Finding]:
    """Every latency table at hand is sound."""
    problems = machine.table_problems()
    if not problems:
        yield Finding(
            "blocking", "there is no latency table", "install hwnas again, or: hwnas table build --name NAME"
        )
    for name, problem in problems.items():
        if problem is not None:
            yield Finding(
                "warning", f"the table of '{name}' is not used: {problem}", f"hwnas table check {name}"
            )
    sound = [name for name, problem in problems.items() if problem is None]
    if sound:
        yield Finding("ok", f"latency tables at hand: {len(sound)}")


CHECKS: tuple[Callable[[Machine], Iterable[Finding]], ...] = (
    python,
    import_name,
    packages,
    torch,
    every_runtime,
    clocks,
    heat,
    folder,
    tables,
)
"""In the order of the report."""


def _install_command(machine: Machine, extra: str) -> str:
    """Installs what an extra asks for: of the installed hwnas, or of the checkout it runs from."""
    wanted = f"[{extra}]" if extra else ""
    if machine.version_of("hwnas"):
        return f"pip install 'hwnas{wanted}'"
    return f"pip install -e '{Path(__file__).parents[2]}{wanted}'"


def _import_died(package: str, version: str, cause: str) -> Finding:
    return Finding(
        "warning",
        f"'import {package}' fails with {cause}: version {version} does not run on this machine",
        f"pip install '{package}<{version}' (an older wheel), or build it for this CPU",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """'1.31.1+cpu' -> (1, 31, 1): enough to compare releases."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
