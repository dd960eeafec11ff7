"""Trains UniForm-t and one other network on CIFAR-10 (JPEG), kills the first with SIGKILL, resumes it.

Writes into this folder: results.csv (a row an epoch), results.md (a row a network) and each training's
own result.json. Everything runs through the command line, as a user would.
"""

from __future__ import annotations

import argparse
import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", required=True, help="CIFAR-10 as JPEGs: train/CLASS, test/CLASS; folder or tar"
    )
    parser.add_argument("--arch", required=True, help="the second network: a YAML file, or RUN#1")
    parser.add_argument(
        "--work", required=True, type=Path, help="folder for checkpoints, outside the project"
    )
    parser.add_argument("--limit", type=int, default=20_000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--stem-stride", type=int, default=8)
    parser.add_argument("--results", type=Path, default=HERE, help="where results go")
    given = parser.parse_args()

    documents = []
    for label, arch in (("uniform-t", "uniform-t"), ("searched", given.arch)):
        out = given.work / label
        command = [sys.executable, "-m", "hwnas", "train", arch, "--data", given.data, "--recipe", "small"]
        command += ["--epochs", str(given.epochs), "--limit", str(given.limit), "--out", str(out)]
        command += ["--image-size", str(given.image_size), "--stem-stride", str(given.stem_stride)]
        began = time.monotonic()
        killed = kill_in_second_epoch(command, out) if label == "uniform-t" else ""
        subprocess.run([*command, *(["--resume"] if killed else [])], check=True)
        wall_s = time.monotonic() - began
        evaluated = subprocess.run(
            [sys.executable, "-m", "hwnas", "evaluate", str(out), "--data", given.data, "--json"],
            check=True,
            stdout=subprocess.PIPE,
        )
        document = json.loads((out / "result.json").read_text())
        agreed = json.loads(evaluated.stdout)["top1_percent"] == document["best_top1_percent"]
        document |= {"label": label, "killed": killed, "wall_seconds": wall_s, "evaluate_agrees": agreed}
        documents.append(document)
        (given.results / f"{label}.result.json").write_text(json.dumps(document, indent=1) + "\n")
    write_tables(given.results, documents)


def kill_in_second_epoch(command: list[str], out: Path) -> str:
    """Start the training and end it with SIGKILL in the middle of its second epoch; what was done."""
    history = out / "history.jsonl"
    with subprocess.Popen(command) as process:
        while not history.exists():
            if process.poll() is not None:
                raise SystemExit("the training ended before it could be killed")
            time.sleep(0.2)
        first_epoch_s = json.loads(history.read_text().splitlines()[0])["seconds"]
        time.sleep(0.4 * first_epoch_s)
        process.send_signal(signal.SIGKILL)
    finished = len(history.read_text().splitlines())
    return f"SIGKILL {0.4 * first_epoch_s:.0f} s into epoch {finished + 1}, resumed after epoch {finished}"


def write_tables(folder: Path, documents: list[dict[str, Any]]) -> None:
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "id", "epoch", "loss", "top1_percent", "top5_percent", "lr", "seconds"])
        for document in documents:
            for record in document["history"]:
                writer.writerow([document["label"], document["id"], *record.values()])
    lines = [
        "| network | id | params | MACs | images | epochs | top-1 (%) | top-5 (%) "
        "| images/s | minutes | interrupted |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for document in documents:
        images = document["data"]["train_images"]
        rate = images * document["epochs"] / document["train_seconds"]
        lines.append(
            f"| {document['label']} | {document['id']} | {document['params'] / 1e6:.2f} M "
            f"| {document['macs'] / 1e6:.1f} M | {images} | {document['epochs']} "
            f"| {document['top1_percent']:.2f} | {document['top5_percent']:.2f} | {rate:.0f} "
            f"| {document['wall_seconds'] / 60:.1f} | {document['killed'] or 'no'} |"
        )
    environment = documents[0]["environment"]
    lines += [
        "",
        f"Test images: {documents[0]['data']['evaluation_images']}. Seed {documents[0]['seed']}. "
        f"torch {environment['torch']}, timm {environment['timm']}, {environment['machine']}, "
        f"{environment['device']}, {environment['threads']} threads. images/s includes evaluation after each "
        "epoch; minutes include starting, indexing the archive and, for the killed one, the repeated part.",
        "`hwnas evaluate` on the checkpoint gives the accuracy that training recorded: "
        + ("yes" if all(document["evaluate_agrees"] for document in documents) else "NO"),
    ]
    (folder / "results.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
