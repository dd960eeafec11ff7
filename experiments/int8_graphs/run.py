"""What does int8 cost in accuracy, in the deployment graph and in the reference graph?

    python experiments/int8_graphs/run.py --images CIFAR10 --work WORK [--networks uniform-t ...] [--epochs N]

CIFAR10 is a folder or tar with train/CLASS/*.jpg and test/CLASS/*.jpg. Trains each network (a training that
was interrupted goes on), quantises both graphs of it with the same calibration images, and evaluates torch
and both files on the same test images. Writes results.json and results.md beside this file (or into
--results).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hwnas.cli.app import main as hwnas
from hwnas.data.images import subset
from hwnas.data.sources import open_images
from hwnas.export.accuracy_check import calibration_batches, compare
from hwnas.export.deployment_graph import deployed
from hwnas.export.formats import FORMATS
from hwnas.export.onnx_graph import network_graph, reference_graph
from hwnas.export.quantise import quantise
from hwnas.nn.network import Network
from hwnas.train import checkpoint

HERE = Path(__file__).parent


def prepare_data(images: Path, folder: Path, counts: dict[str, int]) -> None:
    """folder/SPLIT/CLASS/*.jpg: that many images of each split, drawn with seed 0."""
    if (folder / ".complete").exists():
        return
    found = open_images(images)
    for split, count in counts.items():
        for image in subset(found.split(split), count, 0):
            (folder / image.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / image.name).write_bytes(found.read(image))
    (folder / ".complete").touch()


def train(name: str, work: Path, epochs: int) -> Path:
    """The folder of the training of a network."""
    out = work / name
    if not (out / "result.json").exists():
        words = ["train", name, "--data", str(work / "images"), "--recipe", "small", "--stem-stride", "8"]
        words += ["--batch", "64", "--epochs", str(epochs), "--accelerator", "cpu", "--out", str(out)]
        if hwnas((*words, *(["--resume"] if out.exists() else []))):
            raise SystemExit(f"training {name} failed")
    return out


def rows_of(name: str, work: Path) -> list[dict[str, Any]]:
    """A row for each graph of a trained network."""
    trained = checkpoint.load(work / name)
    network = checkpoint.trained_network(trained)
    assert isinstance(network, Network)
    batches = list(calibration_batches(trained, work / "images", batch=1))
    graphs = {
        "reference": reference_graph(network),
        "deployment": network_graph(deployed(network, "onnxruntime", "int8")),
    }
    rows = []
    for graph, model in graphs.items():
        for precision, data in (("fp32", model), ("int8", quantise(model, batches))):
            run = FORMATS["onnx"].loader(data, 1)
            found = compare(
                trained, network, lambda images, run=run: _one_by_one(run, images), work / "images"
            )
            rows.append({"network": name, "graph": graph, "precision": precision} | dataclasses.asdict(found))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def _one_by_one(run: Any, images: Any) -> Any:
    return torch.cat([torch.from_numpy(run(images[n : n + 1])) for n in range(len(images))]).numpy()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| network | graph | precision | top-1 in torch, % | top-1 of the file, % | same class, % | images |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['network']} | {row['graph']} | {row['precision']} | {row['top1_before_percent']:.2f} "
        f"| {row['top1_after_percent']:.2f} | {row['agreement_percent']:.2f} | {row['images']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=["uniform-t", "efficientvit-m0"], metavar="NAME")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--results", type=Path, default=HERE)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.work.mkdir(parents=True, exist_ok=True)
    prepare_data(asked.images, asked.work / "images", {"train": 4000, "test": 2000})
    rows = []
    for name in asked.networks:
        train(name, asked.work, asked.epochs)
        rows += rows_of(name, asked.work)
    (asked.results / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (asked.results / "results.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
