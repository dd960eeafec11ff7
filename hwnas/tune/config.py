"""TuneConfig: which networks are trained, on what, and when a weak one is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwnas.errors import UsageError
from hwnas.space import ArchSpec, count_macs, lower
from hwnas.space.size import band
from hwnas.targets import Promise
from hwnas.train.init_weights import Start
from hwnas.train.recipe import Recipe

__all__ = ["TuneConfig"]


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """Who is trained, on what, and when one is ended. Construction raises UsageError."""

    networks: Mapping[str, ArchSpec]
    """By names that are folder names as well."""
    data: str
    """As `hwnas.data.images.open_images` takes it; every machine finds it by this name."""
    recipe: Recipe
    out: Path
    """A folder, which every machine sees: each network's training lies in the one of its name."""
    limit: int | None = None
    """Training images, equally many of each class; None for all."""
    init: str | Callable[[ArchSpec], Start] | None = None
    """Weights to start from, as `hwnas.train.training` takes them."""
    first_epochs: int = 1
    """No training is ended before these."""
    keep_one_in: int = 2
    """After `first_epochs` and each time that this many times as many are done, one network in so many
    of its size goes on."""
    classes: int | None = None
    """Of the data, which each network is adapted to; None leaves the networks' own in `arch`."""
    promises: Mapping[str, Promise] = field(default_factory=dict)
    """The latency budgets that networks were searched for, by name; none for networks of no run."""

    def __post_init__(self) -> None:
        if len(self.networks) < 2:
            raise UsageError(f"at least two networks are needed, got {len(self.networks)}")
        if not 1 <= self.first_epochs <= self.recipe.epochs:
            raise UsageError(
                f"--first-epochs must be from 1 to the recipe's {self.recipe.epochs} epochs, "
                f"got {self.first_epochs}"
            )
        if self.keep_one_in < 2:
            raise UsageError(f"--keep-one-in must be 2 or more, got {self.keep_one_in}")

    def folder(self, name: str) -> Path:
        """Where that network's training lies."""
        return self.out / name

    def arch(self, name: str) -> ArchSpec:
        """That network as it is trained."""
        return self.recipe.adapted(self.networks[name], classes=self.classes)

    def bands(self) -> dict[str, int]:
        """The band of sizes that each network competes in."""
        return {name: band(count_macs(lower(self.arch(name)))) for name in self.networks}
