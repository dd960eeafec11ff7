"""Trains a supernet on the ground truth's images, and asks it about its networks after each epoch.

    python experiments/supernet/run.py --data cifar10-jpeg.tar.xz

May be stopped in any way and at any time: the same command goes on where it was, at most one epoch back.
Then trains one network on from its slices, under the ground truth's protocol. `report.py` says what it gave.
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

from hwnas.space import ArchSpec, SearchSpace
from hwnas.supernet import Judge, Settings, find_start, train
from hwnas.supernet.checkpoint import load
from hwnas.train.observer import FinishedEpoch, Progress, Silent
from hwnas.train.start import initialise
from hwnas.whole_file import write_whole

SPACE = Path(__file__).with_name("space.yaml")
PROTOCOL = training.PROTOCOLS["cpu"]
SETTINGS = Settings(epochs=4, batch_size=64, random_networks=1, max_macs=45e6, calibration_images=256)
"""What an hour of a busy core affords. The limit is about what networks of 150 MMACs at 224 pixels need."""
ASKED = (0, 2, 4, 5, 6, 8, 10, 12)
"""Numbers of the ground truth's networks that each epoch's weights are asked about."""
ESTIMATES, STARTED = "estimates.json", "started.json"


class EachEpoch(Silent):
    """Asks the supernet of each epoch about the networks, and keeps the answers."""

    def __init__(self, work: Path, subjects: Sequence[networks.Subject]) -> None:
        self.file, self.supernet, self.subjects = work / ESTIMATES, work / "supernet", subjects
        self.last_s = time.monotonic()

    def note(self, text: str) -> None:
        print(text, flush=True)

    def step(self, progress: Progress) -> None:
        if time.monotonic() - self.last_s > 60:
            self.last_s = time.monotonic()
            print(f"update {progress.step}/{progress.steps}: loss {progress.loss:.3f}", flush=True)

    def epoch(self, record: FinishedEpoch) -> None:
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        judged = Judge.load(self.supernet).judged(subject.trained for subject in self.subjects)
        known[str(record.epoch)] = {
            subject.arch.id: {"top1_percent": one.top1_percent, "seconds": round(one.seconds, 2)}
            for subject, one in zip(self.subjects, judged, strict=True)
        }
        write_whole(self.file, json.dumps(known))
        print(
            f"{time.strftime('%H:%M:%S')} epoch {record.epoch}: loss {record.loss:.3f}, {record.outcome}, "
            f"{record.seconds:.0f} s",
            flush=True,
        )


def judged_subjects(numbers: Sequence[int]) -> list[networks.Subject]:
    """Networks of the ground truth, those of them that lie in the supernet's space."""
    space = SearchSpace.from_yaml(SPACE)
    return [one for one in networks.subjects() if one.number in numbers and space.contains(one.trained)]


def train_on(arch: ArchSpec, work: Path, data: training.Data) -> dict[str, object]:
    """The ground truth's training of a network, but from its slices of the shared weights."""
    start = functools.partial(find_start, work / "supernet")
    return training.train(
        arch,
        data,
        PROTOCOL,
        seed=0,
        state_file=work / "started.pt",
        report=lambda text: print(text, flush=True),
        start=lambda network: initialise(network, start, arch, Silent()),
    )


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
    parser.add_argument("--asked", type=int, nargs="+", default=ASKED, help="numbers of networks")
    parser.add_argument("--train-on", type=int, default=0, help="number of the network that is trained on")
    parser.add_argument(
        "--as-it-is", action="store_true", help="train on from the supernet that is there, finished or not"
    )
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = replace(SETTINGS, epochs=arguments.epochs)
    subjects = judged_subjects(arguments.asked)
    if not arguments.as_it_is:
        train(
            SearchSpace.from_yaml(SPACE),
            arguments.data,
            settings,
            work / "supernet",
            limit=PROTOCOL.train_images,
            resume=True,
            observer=EachEpoch(work, subjects),
        )
    subject = networks.subjects()[arguments.train_on]
    data = training.read_data(arguments.data, PROTOCOL)
    epochs = len(load(work / "supernet").history)
    outcome = train_on(subject.trained, work, data)
    started = {"number": subject.number, "id": subject.arch.id, "supernet_epochs": epochs, **outcome}
    write_whole(work / STARTED, json.dumps(started))


if __name__ == "__main__":
    main()
