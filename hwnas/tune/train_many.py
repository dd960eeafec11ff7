"""train_many: several networks trained at once, weak ones stopped early; what came of each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import HwnasError, UsageError
from hwnas.space import ArchSpec
from hwnas.train.history import read_history
from hwnas.tune.config import TuneConfig
from hwnas.tune.record import FALLEN_BEHIND, State, read_states, write_states
from hwnas.tune.trials import Trials

__all__ = ["Outcome", "train_many"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far one network came."""

    name: str
    arch: ArchSpec
    """As trained."""
    folder: Path
    state: State
    epochs: int
    top1_percent: float | None
    """After its last epoch; None when it never finished one."""
    error: str = ""
    """Why its training failed, if it did."""


def train_many(
    config: TuneConfig,
    *,
    resume: bool = False,
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Outcome, ...]:
    """Trains all networks, up to `workers` at once, as trials of Ray Tune under successive halving.

    A training whose worker dies goes on after its last finished epoch, on another one. With `resume`,
    a run whose own process or cluster died goes on: everything it needs is in `config.out`.
    The finished come first, the most accurate before all others.

    Raises MissingPackageError without Ray, UsageError when the folder holds trainings and `resume` is
    not given, when no cluster answers at `address` or none with so many GPUs; HwnasError when no training
    could be done. KeyboardInterrupt passes through at any time.
    """
    known = read_states(config.out)
    if known and not resume:
        raise UsageError(
            f"{config.out} already holds trainings: add --resume to continue, or choose another folder"
        )
    states: dict[str, State] = {name: known.get(name, "open") for name in config.networks}

    def fallen_behind(name: str) -> None:
        states[name] = FALLEN_BEHIND
        write_states(config.out, states)
        say(f"{name}: ended, others of its size have learnt more")

    def finished(name: str) -> None:
        states[name] = "finished"
        write_states(config.out, states)

    with closing(Trials(workers=workers, address=address, gpus=gpus)) as trials:
        write_states(config.out, states)
        errors = trials.run(
            config,
            done={name for name, state in states.items() if state != "open"},
            fallen_behind=fallen_behind,
            finished=finished,
            say=say,
        )
    shutil.rmtree(config.out / "ray", ignore_errors=True)
    outcomes = [_outcome(config, name, states[name], errors.get(name, "")) for name in config.networks]
    if all(outcome.state == "open" for outcome in outcomes):
        raise HwnasError(f"no training could be done: {outcomes[0].name}: {outcomes[0].error}")
    return tuple(sorted(outcomes, key=_rank))


def _outcome(config: TuneConfig, name: str, state: State, error: str) -> Outcome:
    history = read_history(config.folder(name))
    last = history[-1] if history else {}
    return Outcome(
        name=name,
        arch=config.arch(name),
        folder=config.folder(name),
        state=state,
        epochs=last.get("epoch", 0),
        top1_percent=last.get("top1_percent"),
        error=error,
    )


def _rank(outcome: Outcome) -> tuple[bool, int, float]:
    return outcome.state != "finished", -outcome.epochs, -(outcome.top1_percent or 0.0)
