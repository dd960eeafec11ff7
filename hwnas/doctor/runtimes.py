"""Every runtime that hwnas has: its version and providers, or the command that installs it.

A runtime is always loaded in a process of its own: stock wheels have crashed on import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hwnas import plugins
from hwnas.board import install
from hwnas.doctor.finding import Finding

__all__ = ["here", "on_board", "on_gpu", "probe_all"]

_AT_ONCE = 2


def probe_all() -> dict[str, Mapping[str, Any]]:
    """Runtime -> what its plug-in's `probe` says under this Python."""
    names = plugins.names("runtimes")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(
            lambda name: install.probe(sys.executable, str(plugins.file_of("runtimes", name))), names
        )
        return dict(zip(names, found, strict=True))


def here(probes: Mapping[str, Mapping[str, Any]], *, gpu: bool) -> Iterable[Finding]:
    """What there is on this machine; `gpu`: whether it has an NVIDIA GPU."""
    for name, found in probes.items():
        if found.get("crashed"):
            yield Finding(
                "warning",
                f"the runtime {name} does not load here: it fails with {found['crashed']}",
                f"pip install --force-reinstall {name}, or '{name}<VERSION' (an older one)",
            )
        elif found["missing"]:
            yield Finding(
                "note", f"the runtime {name} is not here: no network is timed with it", found["missing"]
            )
        elif gpu and name == "onnxruntime" and not any(map(on_gpu, found["providers"])):
            yield Finding(
                "note",
                f"there is an NVIDIA GPU, but {name} {found['version']} measures on the CPU only",
                "pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
            )
        else:
            yield Finding("ok", _there(name, found))


def on_board(surveys: Mapping[str, Mapping[str, Any]], *, host: str) -> Iterable[Finding]:
    """What there is on a board beside the runtime asked for; `surveys` as `hwnas.board.survey` gives."""
    for name, survey in surveys.items():
        probes = survey["runtimes"]
        found = next((one for one in probes if not one["missing"]), None)
        crashed = next((one for one in probes if one.get("crashed")), None)
        if found is not None:
            yield Finding("ok", f"{_there(name, found)} ({found['python']})")
        elif crashed is not None:
            yield Finding(
                "note",
                f"{name} is on the board, but loading it fails with {crashed['crashed']} "
                f"({crashed['python']})",
                f"on the board: {crashed['python']} -m pip install '{name}<VERSION' (an older one)",
            )
        else:
            wanted = " ".join(survey["packages"]) or "its packages"
            mend = f"hwnas table build --name NAME --host {host} --runtime {name}"
            if survey["chosen"]:
                mend = f"on the board: {survey['chosen']} -m pip install --upgrade {wanted}"
            yield Finding("note", f"{name} is not on the board; it needs {wanted} there", mend)


def on_gpu(provider: str) -> bool:
    """Whether a provider, by its name, computes on a GPU."""
    return any(word in provider.lower() for word in ("cuda", "tensorrt", "gpu", "vulkan"))


def _there(name: str, found: Mapping[str, Any]) -> str:
    return f"{name} {found['version']} with {', '.join(found['providers'])}"
