"""The ground truth as a table of trainings, which the accuracy estimator `learned` learns from.

python experiments/ground_truth/as_trainings.py --out ground-truth.jsonl
hwnas search --device cpu-x86 --budget 4ms --accuracy learned:ground-truth.jsonl
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import networks
import table
from protocol import PROTOCOLS

from hwnas.train.trainings import remember, row_of


def trainings(protocol: str, file: Path = table.FILE, first: int | None = None) -> Iterator[dict[str, Any]]:
    """A line for each finished training of the protocol, as `hwnas train` would have added it.

    With `first`, of the earliest so many trainings only: what was known at that time.
    """
    by_id = {subject.arch.id: subject for subject in networks.subjects()}
    for row in table.rows(protocol, file)[:first]:
        if row["id"] not in by_id:
            continue
        arch = by_id[row["id"]].trained
        by_epoch = row["top1_by_epoch_percent"]
        yield row_of(
            {
                "id": arch.id,
                "seed": row["seed"],
                "top1_percent": row["top1_percent"],
                "history": [{"top1_percent": value} for value in by_epoch],
                "train_seconds": row["wall_seconds"],
                "data": {
                    "name": "CIFAR-10 (JPEG)",
                    "digest": "CIFAR-10 (JPEG)",
                    "train_images": PROTOCOLS[protocol].train_images,
                },
                "recipe": {
                    "protocol": protocol,
                    "epochs": len(by_epoch),
                    "image_size": networks.RESOLUTION,
                    "stem_stride": networks.STEM_STRIDE,
                },
                "arch": arch.to_dict(),
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--protocol", default="cpu")
    parser.add_argument("--table", type=Path, default=table.FILE)
    parser.add_argument(
        "--out", type=Path, required=True, help="the table that is written; replaced if there"
    )
    parser.add_argument("--first", type=int, help="take the earliest so many trainings only")
    arguments = parser.parse_args()
    arguments.out.unlink(missing_ok=True)
    for row in trainings(arguments.protocol, arguments.table, arguments.first):
        remember(row, arguments.out)


if __name__ == "__main__":
    main()
