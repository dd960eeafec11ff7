"""How a user says where candidates are evaluated: the engine, its workers, a cluster's address, GPUs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from hwnas.shell import install

__all__ = ["AddressOption", "EngineOption", "GpusOption", "WorkersOption", "evaluated_where"]

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Where to evaluate: optuna (default, this machine) or ray (a cluster).",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Number of parallel evaluations (1)."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="Ray cluster: auto or HOST:PORT. Default: start Ray on this machine.",
    ),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--gpus", metavar="N", min=0.0, help="GPUs per worker with --engine ray (0)."),
]


def evaluated_where(
    *, given: Mapping[str, Any], recorded: Mapping[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    """The options of `search` and `resume` that say where candidates are evaluated.

    `given` on the command line, over those `recorded` in a run. Where Ray is wanted and is not installed,
    this machine's processes do, and `say` is told so.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    both = {**recorded, **asked}
    if both.get("engine") != "ray" or importlib.util.find_spec("ray") is not None:
        return asked
    workers = both.get("workers", 1)
    say(
        f"Ray is not installed. Install it: {install('ray')}. Until then, networks are evaluated with "
        f"{workers} {'process' if workers == 1 else 'processes'} of this machine."
    )
    return {"engine": "optuna", "workers": workers}
