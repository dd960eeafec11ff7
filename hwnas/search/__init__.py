"""Search: the networks worth choosing from within a latency budget.

    result = search(space, device="rpi4", budget_ms=20)
    result.front[0].arch, result.front[0].latency.value, result.front[0].accuracy.value

The package itself is callable: `hwnas.search(...)` is the function of the public API (`hwnas.api`).
Importing this loads nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

if TYPE_CHECKING:
    from hwnas.search.api import DEFAULT_TRIALS, resume, search
    from hwnas.search.output import document
    from hwnas.search.problem import Problem
    from hwnas.search.run import SearchResult, load_run, next_folder, resume_command
    from hwnas.search.trial import Candidate, Trial
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
    "Candidate": "trial",
    "DEFAULT_TRIALS": "api",
    "Problem": "problem",
    "SearchResult": "run",
    "Trial": "trial",
    "document": "output",
    "load_run": "run",
    "next_folder": "run",
    "resume": "api",
    "resume_command": "run",
    "search": "api",
    "verify_front": "verify",
}

__getattr__ = plugins.lazy_names(__name__, _HOMES)
plugins.callable_package(__name__)
