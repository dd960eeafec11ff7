"""Trains backbones of the families to detect, and one to segment, and writes the table.

    python experiments/dense/make_shapes.py SHAPES
    python experiments/dense/run.py --data SHAPES --work WORK [--only shvit-s1:detect] [--device cuda]

Interrupted, it goes on with the last finished epoch when it is started again. results.md and
results.json are written when all are done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RUNS = (
    "uniform-t:detect",
    "efficientvit-m0:detect",
    "uniform-t:segment",
)
"""Architecture and task; each with recipe `small`, a stem of stride 8, weights from chance."""


def train(run: str, asked: argparse.Namespace) -> None:
    """Train to the end, from where it was; raises CalledProcessError where it is stopped."""
    arch, _, task = run.partition(":")
    out = asked.work / run.replace(":", "-")
    command = [
        *(sys.executable, "-m", "hwnas", "dense", "train", arch, "--task", task, "--data", str(asked.data)),
        *("--recipe", "small", "--epochs", str(asked.epochs), "--accelerator", asked.device),
        *("--stem-stride", "8", "--workers", "0", "--out", str(out), "--resume"),
    ]
    if not (out / "result.json").exists():
        subprocess.run(command, check=True)


def table(documents: dict[str, dict[str, Any]]) -> str:
    """The results as a table in Markdown."""
    lines = [
        "| architecture | task | loss, first and last epoch | after the first | after the last | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for run, document in documents.items():
        arch, _, task = run.partition(":")
        history = document["history"]
        scores = [
            ", ".join(f"{name.replace('_', ' ')} {value:.1f} %" for name, value in record["scores"].items())
            for record in (history[0], history[-1])
        ]
        losses = f"{history[0]['loss']:.2f}, {history[-1]['loss']:.2f}"
        minutes = document["train_seconds"] / 60
        lines.append(f"| {arch} | {task} | {losses} | {scores[0]} | {scores[1]} | {minutes:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=RUNS, help="train this one alone")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    for run in (asked.only,) if asked.only else RUNS:
        train(run, asked)
    results = {run: asked.work / run.replace(":", "-") / "result.json" for run in RUNS}
    if all(file.exists() for file in results.values()):
        documents = {run: json.loads(file.read_text(encoding="utf-8")) for run, file in results.items()}
        (HERE / "results.md").write_text(table(documents), encoding="utf-8")
        (HERE / "results.json").write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
