"""Zero-cost scores as numbers to learn from, kept in a file: they are the same each time, and dear."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import FileFormatError
from hwnas.predictors.accuracy.zero_cost import ZeroCost
from hwnas.space.arch import ArchSpec

__all__ = ["Scored"]


@dataclass(frozen=True, slots=True)
class Scored:
    """Asks each proxy once about each network."""

    zero_cost: ZeroCost
    file: Path | None = None
    """Where scores are kept between processes; None keeps them in this one."""
    _known: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises FileFormatError for a file that holds anything but scores."""
        if self.file is None or not self.file.exists():
            return
        for number, line in enumerate(self.file.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            try:
                row = json.loads(line)
                self._known[str(row["of"])] = {
                    str(name): float(row["scores"][name]) for name in row["scores"]
                }
            except (ValueError, KeyError, TypeError):
                raise FileFormatError(
                    f"{self.file}: line {number} holds no scores: delete the file, it is made anew"
                ) from None

    def columns(self, arch: ArchSpec) -> NDArray[np.float64]:
        """The proxies' scores of the network, in their order: (proxies,)."""
        fitted = self.zero_cost.samples.adapted(arch)
        key = f"{fitted.id} {self.zero_cost.samples.digest} {self.zero_cost.images}"
        known = self._known.get(key, {})
        if not set(self.zero_cost.proxies) <= set(known):
            known = self._known[key] = self.zero_cost.scores(arch, 0)
            if self.file is not None:
                with self.file.open("a", encoding="utf-8") as opened:
                    opened.write(json.dumps({"of": key, "scores": known}) + "\n")
        return np.array([known[name] for name in self.zero_cost.proxies])
