"""Search: the networks worth choosing from within a latency budget.

    result = search(space, device="rpi4", budget_ms=20)
    result.front[0].arch, result.front[0].latency.value, result.front[0].accuracy.value

Importing this loads nothing; a name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.search.candidate import Candidate, Trial
    from hwnas.search.conduct import DEFAULT_TRIALS, resume, search
    from hwnas.search.output import document
    from hwnas.search.problem import Problem
    from hwnas.search.run import SearchResult, load_run, next_folder, resume_command
    from hwnas.search.verify import verify_front

__all__ = [
    "DEFAULT_TRIALS",
    "Candidate",
    "Problem",
    "SearchResult",
    "Trial",
    "document",
    "load_run",
    "next_folder",
    "resume",
    "resume_command",
    "search",
    "verify_front",
]

_HOMES = {
    "candidate": ("Candidate", "Trial"),
    "conduct": ("DEFAULT_TRIALS", "resume", "search"),
    "output": ("document",),
    "problem": ("Problem",),
    "run": ("SearchResult", "load_run", "next_folder", "resume_command"),
    "verify": ("verify_front",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hwnas.search.{module}"), name)
    raise AttributeError(f"module 'hwnas.search' has no attribute '{name}'")
