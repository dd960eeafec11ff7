"""Trains the networks of networks.jsonl one after the other and adds each to results.jsonl.

    python experiments/ground_truth/run.py --data cifar10-jpeg.tar.xz

May be stopped in any way and at any time: the same command goes on where it was, at most one epoch back.
Several processes share the work with --share 0/4, 1/4 and so on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import networks
import protocol as training
import table

REPEATED_EVERY = 6
"""After so many networks, one of them is trained with two more seeds."""


def jobs() -> Iterator[tuple[networks.Subject, int]]:
    """(network, seed) in the order of training."""
    subjects = networks.subjects()
    for number, subject in enumerate(subjects):
        yield subject, 0
        if number % REPEATED_EVERY == REPEATED_EVERY - 1:
            # Another place in each round, so that published and sampled, small and large ones are among them.
            chosen = subjects[number - (number // REPEATED_EVERY) % REPEATED_EVERY]
            yield chosen, 1
            yield chosen, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as JPEG files: a folder or a tar")
    parser.add_argument("--protocol", choices=training.PROTOCOLS, default="cpu")
    parser.add_argument("--trainings", type=int, default=10**6, help="stop when the table has so many")
    parser.add_argument("--share", default="0/1", help="which part of the work is this process's: I/N")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hwnas-ground-truth",
        help="where the training that is going on is kept",
    )
    parser.add_argument("--table", type=Path, default=table.FILE, help="the table that rows are added to")
    arguments = parser.parse_args()
    protocol = training.PROTOCOLS[arguments.protocol]
    part, parts = map(int, arguments.share.split("/"))
    arguments.work.mkdir(parents=True, exist_ok=True)
    state_file = arguments.work / f"{protocol.name}-{part}-of-{parts}.pt"
    data = training.read_data(arguments.data, protocol)

    for number, (subject, seed) in enumerate(jobs()):
        finished = {(row["id"], row["seed"]) for row in table.rows(protocol.name, arguments.table)}
        if len(finished) >= arguments.trainings:
            break
        if number % parts != part or (subject.arch.id, seed) in finished:
            continue
        label = f"{time.strftime('%H:%M:%S')} network {subject.number} ({subject.origin}), seed {seed}"

        def report(text: str, label: str = label) -> None:
            print(f"{label}: {text}", flush=True)

        outcome = training.train(
            subject.trained, data, protocol, seed=seed, state_file=state_file, report=report
        )
        table.append(
            {
                "protocol": protocol.name,
                "id": subject.arch.id,
                "number": subject.number,
                "origin": subject.origin,
                "kind": subject.kind,
                "seed": seed,
                **outcome,
                "environment": training.environment(protocol),
            },
            arguments.table,
        )
        state_file.unlink()


if __name__ == "__main__":
    main()
