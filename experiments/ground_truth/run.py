"""Trains the networks of networks.jsonl one after the other and adds each to results.jsonl.

    python experiments/ground_truth/run.py --data cifar10-jpeg.tar.xz

May be stopped in any way and at any time: the same command goes on where it was, at most one epoch back.
Several processes may run it at once; each takes the next training that no other has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import networks
import protocol as training
import table
from work import Job, work

REPEATED_EVERY = 6
"""After so many networks, one of them is trained with two more seeds."""


def jobs() -> Iterator[Job]:
    """In the order of training."""
    subjects = networks.subjects()
    for number, subject in enumerate(subjects):
        yield _job(subject, 0)
        if number % REPEATED_EVERY == REPEATED_EVERY - 1:
            # Another place in each round, so that published and sampled, small and large ones are among them.
            chosen = subjects[number - (number // REPEATED_EVERY) % REPEATED_EVERY]
            yield _job(chosen, 1)
            yield _job(chosen, 2)


def _job(subject: networks.Subject, seed: int) -> Job:
    return Job(subject.arch.id, subject.trained, seed, subject.number, subject.origin, subject.kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as JPEG files: a folder or a tar")
    parser.add_argument("--protocol", choices=training.PROTOCOLS, default="cpu")
    parser.add_argument("--numbers", type=int, nargs="+", help="train only networks of these numbers")
    parser.add_argument("--seeds", type=int, nargs="+", help="train only with these seeds")
    parser.add_argument("--trainings", type=int, default=10**6, help="stop when the table has so many")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hwnas-ground-truth",
        help="where the trainings that are going on are kept",
    )
    parser.add_argument("--table", type=Path, default=table.FILE, help="the table that rows are added to")
    asked = parser.parse_args()
    protocol = training.PROTOCOLS[asked.protocol]
    asked.work.mkdir(parents=True, exist_ok=True)
    work(
        (
            job
            for job in jobs()
            if (asked.numbers is None or job.number in asked.numbers)
            and (asked.seeds is None or job.seed in asked.seeds)
        ),
        training.read_data(asked.data, protocol),
        protocol,
        folder=asked.work,
        file=asked.table,
        enough=lambda: len(table.rows(protocol.name, asked.table)) >= asked.trainings,
    )


if __name__ == "__main__":
    main()
