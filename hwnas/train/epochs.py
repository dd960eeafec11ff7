"""Epoch after epoch: trained, judged and kept before the next, of classifiers and dense networks alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hwnas.train.checkpoint_folder import BEST, LAST
from hwnas.train.folder import write_history
from hwnas.train.observer import FinishedEpoch, Observer, listed
from hwnas.train.processes import Group
from hwnas.train.saved import Saved

__all__ = ["Trainable", "all_epochs"]

AnySaved = TypeVar("AnySaved", bound=Saved[Any, Any])
Batches = TypeVar("Batches", contravariant=True)
Record = TypeVar("Record", bound=FinishedEpoch)


class Trainable(Protocol[AnySaved, Batches, Record]):
    """A network with all that trains and judges it."""

    @property
    def left_out(self) -> str:
        """What is said of images that could not be used, as in '3 images left out'."""

    clock: Callable[[], float]
    observer: Observer
    group: Group

    def epoch(self, number: int, batches: Batches) -> tuple[float, float, Sequence[tuple[str, str]]]:
        """One pass: mean loss, last learning rate, what could not be used."""

    def judge(
        self, number: int, loss: float, lr: float, batches: Batches, began: float
    ) -> tuple[Record, Sequence[tuple[str, str]]]:
        """How good the network is after that epoch, which began at that time of `clock`; and what could
        not be judged on."""

    def score(self, record: Record) -> float:
        """What `best` is chosen by, the higher the better."""

    def checkpoint(self, start: AnySaved, history: tuple[Record, ...]) -> AnySaved:
        """The state after the last record of `history`."""


def all_epochs(
    trainer: Trainable[AnySaved, Batches, Record],
    start: AnySaved,
    history: tuple[Record, ...],
    training: Batches,
    evaluation: Batches,
    out: Path,
    save: Callable[[AnySaved, Path], None],
) -> tuple[Record, ...]:
    """Trains and judges the epochs after `history`, each kept before the next; the whole history."""
    known_bad: set[str] = set()
    for number in range(len(history) + 1, start.recipe.epochs + 1):
        began = trainer.clock()
        loss, lr, unused = trainer.epoch(number, training)
        record, unjudged = trainer.judge(number, loss, lr, evaluation, began)
        bad = [item for item in (*unused, *unjudged) if item[0] not in known_bad]
        if bad:
            known_bad.update(file for file, _ in bad)
            trainer.observer.note(listed(trainer.left_out, bad))
        is_best = all(trainer.score(record) > trainer.score(earlier) for earlier in history)
        history = (*history, record)
        if trainer.group.is_first:
            current = trainer.checkpoint(start, history)
            if is_best:  # before `last`: a kill in between repeats the epoch, and with it the best
                save(dataclasses.replace(current, training=None), out / BEST)
            save(current, out / LAST)
            write_history(out, history)
        trainer.observer.epoch(record)
    return history
