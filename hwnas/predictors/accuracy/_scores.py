"""Scores of untrained networks, kept: they are the same each time, and dear."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hwnas.io.jsonl import Kind, append_shared, read_log

__all__ = ["SCORES", "Score", "Scores"]

SCORES = Kind(
    "hwnas zero-cost scores",
    noun="the scores of a network",
    fix="Delete the file to score everything again",
    old_keys=("of", "scores"),
)


@dataclass(frozen=True, slots=True)
class Score:
    """What a proxy said of a network, and what it took to say it."""

    value: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores so far, by what they are of and by proxy; in a file, or in this process alone."""

    file: Path | None = None
    _known: dict[str, dict[str, Score]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reads the file; raises FileFormatError when it holds anything but scores."""
        if self.file is None or not self.file.exists():
            return
        for number, row in read_log(self.file, SCORES).numbered():
            try:
                found = {str(name): Score(*map(float, row["scores"][name])) for name in row["scores"]}
                if any(score.cpu_seconds < 0 for score in found.values()):
                    raise ValueError("seconds must be positive")
                self._known.setdefault(str(row["of"]), {}).update(found)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise SCORES.damaged(self.file, number, repr(error)) from None

    def of(self, subject: str) -> dict[str, Score]:
        """By proxy; empty for what was not scored yet."""
        return self._known.get(subject, {})

    def add(self, subject: str, scores: dict[str, Score]) -> None:
        """Keeps them beside the ones that are there; raises HwnasError when the file cannot be written."""
        self._known.setdefault(subject, {}).update(scores)
        if self.file is None:
            return
        told = {name: (score.value, round(score.cpu_seconds, 3)) for name, score in scores.items()}
        append_shared(self.file, SCORES, [{"of": subject, "scores": told}])
