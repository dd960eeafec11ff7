"""Scores of untrained networks, kept: they are the same each time, and dear."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from hwnas.errors import FileFormatError, HwnasError

__all__ = ["Score", "Scores"]


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
        for number, line in enumerate(self.file.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            try:
                row = json.loads(line)
                found = {str(name): Score(*map(float, row["scores"][name])) for name in row["scores"]}
                self._known.setdefault(str(row["of"]), {}).update(found)
            except (ValueError, KeyError, TypeError):
                raise FileFormatError(
                    f"{self.file}: line {number} holds no scores: delete the file, it is made anew"
                ) from None

    def of(self, subject: str) -> dict[str, Score]:
        """By proxy; empty for what was not scored yet."""
        return self._known.get(subject, {})

    def add(self, subject: str, scores: dict[str, Score]) -> None:
        """Keeps them beside the ones that are there; raises HwnasError when the file cannot be written."""
        self._known.setdefault(subject, {}).update(scores)
        if self.file is None:
            return
        told = {name: (score.value, round(score.cpu_seconds, 3)) for name, score in scores.items()}
        try:
            with self.file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"of": subject, "scores": told}) + "\n")
        except OSError as error:
            raise HwnasError(f"{self.file}: the scores must be writable: {error.strerror}") from None
