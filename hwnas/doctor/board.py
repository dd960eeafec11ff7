"""What is missing or odd on a board, seen over ssh. Only the agent's own files are put there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.board.install import FREE_MIB
from hwnas.doctor import runtimes, state
from hwnas.doctor.finding import Finding
from hwnas.measure.remote.answers import clock_time
from hwnas.measure.remote.link import plugin_file
from hwnas.measure.remote.ssh_board import SshBoard, UnfitBoardError

__all__ = ["CHECKS", "examine_board", "findings"]

AVAILABLE_MIB = 300
"""Memory that a runtime and a network of the default space want."""
BUSY = 0.25
"""Of its cores; an idle board's load is near 0."""


def examine_board(host: str, runtime: str, *, config: Path | None = None) -> tuple[Finding, ...]:
    """What all checks found on `host`, in their order.

    Raises BoardError when it cannot be reached, UsageError for an unknown runtime.
    """
    plugin_file(runtime)
    board = SshBoard(host, config=config)
    others = [name for name in plugins.names("runtimes") if name != runtime]
    try:
        survey = board.survey(runtime)
        beside = {name: board.survey(name) for name in others}
    except UnfitBoardError as error:
        what, _, mend = str(error).partition(". ")
        return (Finding("blocking", what, mend),)
    finally:
        board.close()
    return (*findings(survey, host=host, runtime=runtime), *runtimes.on_board(beside, host=host))


def findings(survey: Mapping[str, Any], *, host: str, runtime: str) -> tuple[Finding, ...]:
    """What all checks find in a board's survey (hwnas.board.survey)."""
    return tuple(finding for check in CHECKS for finding in check(survey, host, runtime))


def machine(survey: Mapping[str, Any], host: str, runtime: str) -> Iterable[Finding]:
    """What it is."""
    environment = survey["environment"]
    name = environment["board"] or environment["cpu"] or "a board"
    yield Finding(
        "ok", f"{host} is {name}: {survey['system']}, Python {survey['python']} on {survey['machine']}"
    )


def runtime_there(survey: Mapping[str, Any], host: str, runtime: str) -> Iterable[Finding]:
    """The runtime is there, or can be installed."""
    found = next((one for one in survey["runtimes"] if not one["missing"]), None)
    if found is not None:
        providers = ", ".join(found["providers"])
        yield Finding("ok", f"{runtime} {found['version']} with {providers} ({found['python']})")
        if survey["gpu"] and not any(map(runtimes.on_gpu, found["providers"])):
            yield Finding(
                "note",
                f"there is an NVIDIA GPU, but this {runtime} measures on the CPU only: the packages of the "
                "package index for Arm have no other provider",
                "install NVIDIA's package for your JetPack on the board, and name its Python in HWNAS_PYTHON "
                f"(docs/boards.md); then: hwnas doctor --host {host} --runtime {runtime}",
            )
        return
    last = survey["runtimes"][-1]
    wanted = " ".join(survey["packages"]) or "its packages"
    if survey["chosen"]:
        yield Finding(
            "blocking",
            f"HWNAS_PYTHON on the board is {survey['chosen']}, and {runtime} cannot be used there: "
            f"{last['missing']}",
            f"on the board: {survey['chosen']} -m pip install --upgrade {wanted}",
        )
    elif crashed := next((one for one in survey["runtimes"] if one.get("crashed")), None):
        yield Finding(
            "blocking",
            f"{runtime} is on the board, but loading it fails with {crashed['crashed']}: this version does "
            f"not run on its CPU ({crashed['python']})",
            f"on the board: {crashed['python']} -m pip install '{runtime}<VERSION' (an older one)",
        )
    elif not survey["venv"]:
        yield Finding(
            "blocking",
            f"{runtime} is not on the board, and it cannot make a virtual environment to install it into",
            "on the board: sudo apt install python3-venv",
        )
    else:
        yield Finding(
            "note",
            f"{runtime} is not on the board yet: the first measurement installs {wanted} there, into a "
            f"virtual environment under {survey['cache']}",
            f"hwnas table build --name NAME --host {host} --runtime {runtime}",
        )


def room(survey: Mapping[str, Any], host: str, runtime: str) -> Iterable[Finding]:
    """Disk and memory suffice."""
    there = any(not one["missing"] for one in survey["runtimes"])
    needed = 50 if there else FREE_MIB
    if not survey["writable"]:
        yield Finding(
            "blocking",
            f"{survey['cache']} on the board cannot be written to",
            f"on the board: sudo chown -R $USER {survey['cache']}",
        )
    elif survey["free_mib"] < needed:
        yield Finding(
            "blocking",
            f"the board's disk has {survey['free_mib']} MiB left, {needed} are needed",
            "on the board: sudo apt clean, or a larger card",
        )
    else:
        yield Finding("ok", f"the board's disk has {survey['free_mib']} MiB left")
    available = survey["available_mib"]
    if available is not None and available < AVAILABLE_MIB:
        yield Finding(
            "warning",
            f"the board has {available} MiB of memory left, a large network may need {AVAILABLE_MIB}",
            "end other programs there, or add swap",
        )


def clocks(survey: Mapping[str, Any], host: str, runtime: str) -> Iterable[Finding]:
    """Nothing changes its clock."""
    found = state.governor(survey["environment"]["governor"])
    yield Finding(found.level, found.what, f"on the board: {found.mend}" if found.mend else "")
    environment = survey["environment"]
    yield from state.heat(environment["temperature_c"], environment["throttled_bits"])


def quiet(survey: Mapping[str, Any], host: str, runtime: str) -> Iterable[Finding]:
    """Nothing else runs there."""
    load, cores = survey["environment"]["load"], survey["environment"]["cores"] or 1
    if load is not None and load > BUSY * cores:
        yield Finding(
            "warning",
            f"the board is busy (load {load:.1f} on {cores} cores), which spoils timings",
            "end what runs there: 'top' shows it",
        )
    held = survey["held"]
    if held is not None:
        yield Finding(
            "note",
            f"{held.get('by', 'another host')} has measured on the board since "
            f"{clock_time(held.get('since_s'))}: one host at a time",
        )


CHECKS: tuple[Callable[[Mapping[str, Any], str, str], Iterable[Finding]], ...] = (
    machine,
    runtime_there,
    room,
    clocks,
    quiet,
)
"""In the order of the report."""
