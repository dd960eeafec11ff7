"""Trains what is asked for and not in the table yet; several processes may do so at once.

Each takes the next training that nobody has: a lock on its file, which the system lets go when a process
ends, however it ends. What it had finished of it, whoever comes next goes on with.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import protocol as training
import table

from hwnas.space import ArchSpec


@dataclass(frozen=True, slots=True)
class Job:
    """One training."""

    id: str
    """Of the network as searched."""
    arch: ArchSpec
    """As trained: adapted to the protocol's images."""
    seed: int
    number: int | None
    """In networks.jsonl."""
    origin: str
    kind: str


def work(
    jobs: Iterable[Job],
    data: training.Data,
    protocol: training.Protocol,
    *,
    folder: Path,
    file: Path,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Trains each job that `file` lacks and adds its row; `enough` is asked before each.

    `folder` holds the trainings that are going on.
    """
    for job in jobs:
        if enough():
            break
        if _finished(job, protocol, file):
            continue
        state_file = folder / f"{protocol.name}-{job.id}-{job.seed}.pt"
        with _taken(state_file.with_suffix(".lock")) as is_ours:
            # Who had it before may have finished it just now.
            if not is_ours or _finished(job, protocol, file):
                continue
            _train(job, data, protocol, state_file, file)


def _finished(job: Job, protocol: training.Protocol, file: Path) -> bool:
    return (job.id, job.seed) in {(row["id"], row["seed"]) for row in table.rows(protocol.name, file)}


@contextlib.contextmanager
def _taken(lock_file: Path) -> Iterator[bool]:
    """Whether nobody else has this training; it is ours as long as the context is open."""
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        lock_file.unlink(missing_ok=True)


def _train(job: Job, data: training.Data, protocol: training.Protocol, state_file: Path, file: Path) -> None:
    number = "" if job.number is None else f"network {job.number}, "

    def report(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {number}{job.origin}, seed {job.seed}: {text}", flush=True)

    outcome = training.train(job.arch, data, protocol, seed=job.seed, state_file=state_file, report=report)
    table.append(
        {
            "protocol": protocol.name,
            "id": job.id,
            "number": job.number,
            "origin": job.origin,
            "kind": job.kind,
            "seed": job.seed,
            **outcome,
            "environment": training.environment(protocol),
        },
        file,
    )
    state_file.unlink()
