"""What one check has to say."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEVELS", "Finding"]

LEVELS = ("ok", "note", "warning", "blocking")
"""`ok`: checked and fine. `note`: good to know. `warning`: a verb fails, or timings are spoilt.
`blocking`: the main job cannot run: here a search, on a board measuring."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has to say."""

    level: str
    """One of LEVELS."""
    what: str
    """What was found, in one sentence."""
    mend: str = ""
    """The command or the step that fixes it; empty where there is nothing to do."""
