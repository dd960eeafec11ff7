"""Which images the batches of an epoch hold, and the processes that make them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np

from hwnas.train.randomness import derived_seed

__all__ = ["Order", "Place", "leave_signals", "worker_count"]

Place = tuple[int, int]  # epoch, number of the image


class Order:
    """A batch sampler: lists of (epoch, number), so that workers know the epoch as well.

    Shuffled, the order follows from the seed and the epoch, and a last, smaller batch is left out.
    `share` is (rank, processes): each of several processes has its part of each batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, shuffle: bool, share: tuple[int, int]) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.rank, self.processes = share
        self.epoch = 0

    def __len__(self) -> int:
        return self.count // self.batch_size if self.shuffle else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        order = np.arange(self.count)
        if self.shuffle:
            np.random.default_rng(derived_seed(self.seed, "order", self.epoch)).shuffle(order)
        for batch in range(len(self)):
            numbers = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            part = len(numbers) // self.processes
            mine = numbers[self.rank * part : (self.rank + 1) * part]
            yield [(self.epoch, int(number)) for number in mine]


def worker_count(asked: int, processes: int = 1) -> int:
    """Decoding processes on this machine where a recipe asks for so many (-1: one per spare core, at
    most 8), for each of so many training processes."""
    if asked >= 0:
        return asked
    spare = len(os.sched_getaffinity(0)) - processes if hasattr(os, "sched_getaffinity") else 2
    return min(8, max(1, spare // processes))


def leave_signals(_: int) -> None:
    """What a decoding process does first."""
    # A signal to the whole process group is for the training process; it then ends its workers, which
    # would otherwise be gone first and look like a crash.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
