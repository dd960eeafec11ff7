"""Trains a supernet on the ground truth's images, and asks it about its networks as it goes.

    python experiments/supernet/run.py --data cifar10-jpeg.tar.xz

May be stopped in any way and at any time: the same command goes on where it was, at most one epoch back.
Then trains some networks on from their slices, under the ground truth's protocol. `report.py` says what it
gave.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ground_truth"))

import networks
import protocol as training
import table

from hwnas.io.atomic import write_whole
from hwnas.space import SearchSpace
from hwnas.supernet import Settings, SubnetEvaluator, find_start, train
from hwnas.supernet.checkpoint import load
from hwnas.train.callbacks import FinishedEpoch, NullCallback, Progress
from hwnas.train.checkpoint import LAST
from hwnas.train.init_weights import initialise

SPACE = Path(__file__).with_name("space.yaml")
PROTOCOL = training.PROTOCOLS["cpu"]
SETTINGS = Settings(epochs=12, batch_size=32, random_networks=1, max_macs=102e6, calibration_images=256)
"""What an hour and a half of a core affords. The limit is just above the largest network asked about."""
ASK_EVERY = 3
"""Epochs between one asking about all networks and the next."""
STARTED_NUMBERS = (0, 2, 27)
"""Numbers of the networks that are trained on from their slices: a small, a middling and a good one."""
ESTIMATES = "estimates.json"


class Asking(NullCallback):
    """Asks the supernet about the networks every few epochs, and after the last; keeps the answers."""

    def __init__(self, work: Path, subjects: Sequence[networks.Subject], epochs: int) -> None:
        self.file, self.supernet, self.subjects = work / ESTIMATES, work / "supernet", subjects
        self.epochs = epochs
        self.last_s = time.monotonic()

    def note(self, text: str) -> None:
        print(text, flush=True)

    def step(self, progress: Progress) -> None:
        if time.monotonic() - self.last_s > 60:
            self.last_s = time.monotonic()
            print(f"update {progress.step}/{progress.steps}: loss {progress.loss:.3f}", flush=True)

    def epoch(self, record: FinishedEpoch) -> None:
        print(
            f"{time.strftime('%H:%M:%S')} epoch {record.epoch}: loss {record.loss:.3f}, {record.outcome}, "
            f"{record.seconds:.0f} s",
            flush=True,
        )
        self.ask(record.epoch)

    def ask(self, epoch: int) -> None:
        """Ask the weights there are, which `epoch` left, if it is one to ask after and was not asked yet."""
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        if str(epoch) in known or (epoch % ASK_EVERY and epoch != self.epochs):
            return
        judged = SubnetEvaluator.load(self.supernet).evaluate(subject.trained for subject in self.subjects)
        known[str(epoch)] = {
            subject.arch.id: {
                "top1_percent": one.top1_percent,
                "loss": round(one.loss, 4),
                "seconds": round(one.seconds, 2),
            }
            for subject, one in zip(self.subjects, judged, strict=True)
        }
        write_whole(self.file, json.dumps(known))


def judged_subjects() -> list[networks.Subject]:
    """The networks that the ground truth has trained, those of them that lie in the supernet's space."""
    space = SearchSpace.from_yaml(SPACE)
    known = {row["id"] for row in table.rows(PROTOCOL.name)}
    return [one for one in networks.subjects() if one.arch.id in known and space.contains(one.trained)]


def train_on(subject: networks.Subject, work: Path, data: training.Data) -> dict[str, object]:
    """The ground truth's training of a network, but from its slices of the shared weights."""
    start = functools.partial(find_start, work / "supernet")
    outcome = training.train(
        subject.trained,
        data,
        PROTOCOL,
        seed=0,
        state_file=work / f"started-{subject.number}.pt",
        report=lambda text: print(f"network {subject.number}, {text}", flush=True),
        start=lambda network: initialise(network, start, subject.trained, NullCallback()),
    )
    epochs = len(load(work / "supernet").history)
    return {"number": subject.number, "id": subject.arch.id, "supernet_epochs": epochs, **outcome}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as JPEG files: a folder or a tar")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hwnas-supernet",
        help="where the supernet and the answers are kept",
    )
    parser.add_argument("--epochs", type=int, default=SETTINGS.epochs)
    parser.add_argument(
        "--branch-weight",
        type=float,
        default=SETTINGS.branch_weight,
        help="what BatchNorm's weight starts at where it ends a branch",
    )
    parser.add_argument(
        "--train-on", type=int, nargs="*", default=STARTED_NUMBERS, help="numbers of the networks trained on"
    )
    parser.add_argument(
        "--as-it-is", action="store_true", help="train on from the supernet that is there, finished or not"
    )
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = replace(SETTINGS, epochs=arguments.epochs, branch_weight=arguments.branch_weight)
    if not arguments.as_it_is:
        asking = Asking(work, judged_subjects(), settings.epochs)
        if (work / "supernet" / LAST).exists():  # it may have been stopped while it asked
            asking.ask(len(load(work / "supernet").history))
        train(
            SearchSpace.from_yaml(SPACE),
            arguments.data,
            settings,
            work / "supernet",
            limit=PROTOCOL.train_images,
            resume=True,
            callback=asking,
        )
    data = training.read_data(arguments.data, PROTOCOL)
    for number in arguments.train_on:
        file = work / f"started-{number}.json"
        if not file.exists():
            write_whole(file, json.dumps(train_on(networks.subjects()[number], work, data)))


if __name__ == "__main__":
    main()
