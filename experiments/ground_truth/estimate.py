"""Asks accuracy estimators about the networks of networks.jsonl, and keeps each answer with its cost.

    python experiments/ground_truth/estimate.py --data cifar10-jpeg.tar.xz zero-cost:DATA,side=32,stem=4

An ESTIMATOR is what `hwnas search --accuracy` takes; DATA in it stands for --data, WORK for --work, so
that estimates.jsonl says no path. A journal is left out of its name there: it changes no answer. May be
stopped at any time: what is there is not asked again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import networks
import table
from truth import truth

from hwnas.errors import UsageError
from hwnas.estimate import Estimate, Predictor
from hwnas.predictors.accuracy import load_accuracy

FILE = Path(__file__).with_name("estimates.jsonl")


def estimates(file: Path = FILE) -> dict[str, dict[str, dict[str, Any]]]:
    """By estimator and network: value, std, unit, cpu_seconds. A torn last line is none."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in map(json.loads, lines):
        found.setdefault(row["estimator"], {})[row["id"]] = row
    return found


def as_estimate(row: dict[str, Any]) -> Estimate:
    """The Estimate that a row holds."""
    return Estimate(row["value"], row["std"], unit=row["unit"])


def asked_about(
    count: int, protocol: str | None = None, results: Path = table.FILE
) -> list[networks.Subject]:
    """The first `count` networks; with a protocol, those of them that were trained under it."""
    subjects = networks.subjects() if protocol is None else truth(protocol, results).subjects
    return [subject for subject in subjects if subject.number < count]


def ask(
    name: str,
    load: Callable[[], Predictor],
    subjects: Sequence[networks.Subject],
    file: Path,
    *,
    enough: Callable[[], bool] = lambda: False,
) -> int:
    """Adds the estimates that are missing, and says how many were; `enough` is asked before each.

    A network that the estimator refuses, as a supernet does one outside of its space, is left out.
    """
    known = estimates(file).get(name, {})
    missing = [subject for subject in subjects if subject.arch.id not in known]
    if not missing:
        return 0
    predictor = load()
    for count, subject in enumerate(missing):
        if enough():
            return count
        started = time.process_time()
        try:
            estimate = predictor.predict(subject.arch)
        except UsageError as error:
            print(f"{name}: network {subject.number}: left out: {error}")
            continue
        seconds = time.process_time() - started
        if hasattr(predictor, "cpu_seconds"):  # it may have kept what it computed before
            seconds = predictor.cpu_seconds(subject.arch)
        table.append(
            {
                "estimator": name,
                "id": subject.arch.id,
                "value": estimate.value,
                "std": estimate.std,
                "unit": estimate.unit,
                "cpu_seconds": round(seconds, 4),
            },
            file,
        )
        print(f"{name}: network {subject.number}: {estimate.value:.4g} ± {estimate.std:.2g}, {seconds:.2f} s")
    return len(missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("estimators", nargs="+", metavar="ESTIMATOR")
    parser.add_argument("--data", default="", help="what DATA stands for: a folder of images, or a tar")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hwnas-ground-truth",
        help="what WORK stands for: a folder for journals",
    )
    parser.add_argument("--count", type=int, default=120, help="of the first so many networks")
    parser.add_argument(
        "--trained", metavar="PROTOCOL", help="of these, those that are trained under it already"
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many seconds")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    subjects = asked_about(arguments.count, arguments.trained)
    for asked in arguments.estimators:
        reference = asked.replace("DATA", arguments.data).replace("WORK", str(arguments.work))
        ask(
            re.sub(",journal=[^,]*", "", asked),
            lambda reference=reference: load_accuracy(reference),
            subjects,
            FILE,
            enough=lambda: time.monotonic() - started > arguments.seconds,
        )


if __name__ == "__main__":
    main()
