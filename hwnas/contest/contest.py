"""What a contest is, and how it ended: each network's epochs, accuracy, and whether it went all the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hwnas.contest.record import FALLEN_BEHIND, State, read_states, write_states
from hwnas.errors import HwnasError, UsageError
from hwnas.space import ArchSpec, count_macs, lower
from hwnas.space.size import band
from hwnas.train.folder import read_history
from hwnas.train.recipe import Recipe
from hwnas.train.start import Start

__all__ = ["Contest", "Outcome", "hold"]


@dataclass(frozen=True, slots=True)
class Contest:
    """Who is trained, on what, and when one is ended. Construction raises UsageError."""

    entrants: Mapping[str, ArchSpec]
    """By names that are folder names as well."""
    data: str
    """As `hwnas.train.images.open_images` takes it; every machine finds it by this name."""
    recipe: Recipe
    out: Path
    """A folder, which every machine sees: each network's training lies in the one of its name."""
    limit: int | None = None
    """Training images, equally many of each class; None for all."""
    init: str | Callable[[ArchSpec], Start] | None = None
    """Weights to start from, as `hwnas.train.train` takes them."""
    first_epochs: int = 1
    """No training is ended before these."""
    keep_one_in: int = 2
    """After `first_epochs` and each time that this many times as many are done, one network in so many
    of its size goes on."""

    def __post_init__(self) -> None:
        if len(self.entrants) < 2:
            raise UsageError(f"a contest needs two networks at least, got {len(self.entrants)}")
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
        """That network, at the size of the images."""
        side, stride = self.recipe.image_size or None, self.recipe.stem_stride or None
        return self.entrants[name].adapted(resolution=side, stem_stride=stride)

    def bands(self) -> dict[str, int]:
        """The band of sizes that each network competes in."""
        return {name: band(count_macs(lower(self.arch(name)))) for name in self.entrants}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far one network came."""

    name: str
    arch: ArchSpec
    """At the size of the images."""
    folder: Path
    state: State
    epochs: int
    top1_percent: float | None
    """After its last epoch; None when it never finished one."""
    error: str = ""
    """Why its training failed, if it did."""


def hold(
    contest: Contest,
    *,
    resume: bool = False,
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Outcome, ...]:
    """Trains all entrants, up to `workers` at once, as trials of Ray Tune under successive halving.

    A training whose worker dies goes on after its last finished epoch, on another one. With `resume`,
    so does a contest whose own process, or whole cluster, died: all that counts is in `contest.out`.
    The finished come first, the most accurate before all others.

    Raises MissingPackageError without Ray, UsageError when the folder holds a contest and `resume` is
    not given, when no cluster answers at `address` or none with so many GPUs; HwnasError when no training
    could be done. KeyboardInterrupt passes through at any time.
    """
    from hwnas.contest.trials import Trials

    known = read_states(contest.out)
    if known and not resume:
        raise UsageError(
            f"{contest.out} already holds a contest: add --resume to go on, or choose another folder"
        )
    states: dict[str, State] = {name: known.get(name, "open") for name in contest.entrants}

    def fallen_behind(name: str) -> None:
        states[name] = FALLEN_BEHIND
        write_states(contest.out, states)
        say(f"{name}: ended, others of its size have learnt more")

    def finished(name: str) -> None:
        states[name] = "finished"
        write_states(contest.out, states)

    with closing(Trials(workers=workers, address=address, gpus=gpus)) as trials:
        write_states(contest.out, states)
        errors = trials.run(
            contest,
            done={name for name, state in states.items() if state != "open"},
            fallen_behind=fallen_behind,
            finished=finished,
            say=say,
        )
    shutil.rmtree(contest.out / "ray", ignore_errors=True)
    outcomes = [_outcome(contest, name, states[name], errors.get(name, "")) for name in contest.entrants]
    if all(outcome.state == "open" for outcome in outcomes):
        raise HwnasError(f"no training could be done: {outcomes[0].name}: {outcomes[0].error}")
    return tuple(sorted(outcomes, key=_rank))


def _outcome(contest: Contest, name: str, state: State, error: str) -> Outcome:
    history = read_history(contest.folder(name))
    last = history[-1] if history else {}
    return Outcome(
        name=name,
        arch=contest.arch(name),
        folder=contest.folder(name),
        state=state,
        epochs=last.get("epoch", 0),
        top1_percent=last.get("top1_percent"),
        error=error,
    )


def _rank(outcome: Outcome) -> tuple[bool, int, float]:
    return outcome.state != "finished", -outcome.epochs, -(outcome.top1_percent or 0.0)
