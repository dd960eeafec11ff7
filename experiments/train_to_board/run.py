"""The whole way from a search to files on a board, by the README's own commands, on CIFAR-10 (JPEG).

Every command is `hwnas ...` as a user would type it; they run in the work folder, are shown, and what each
answered is kept there, so that the same call goes on where it was interrupted. Writes results.json and
results.md.

    python experiments/train_to_board/run.py --data cifar10-jpeg.tar.xz --work /tmp/train_to_board
    python experiments/train_to_board/run.py --data ... --work ... --steps measure --again
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.images import subset
from hwnas.data.sources import open_images

HERE = Path(__file__).parent
DATA = "images"
"""The part of the data that everything sees, in the work folder."""

TRAININGS = (
    "teacher uniform-s --recipe small",
    "trained run#1 --recipe small",
    "distilled run#1 --recipe small --set teacher=teacher",
    "finer run#1 --recipe small-finetune --init distilled",
)
"""Name, network and words of each. All have a stem of stride 8, which leaves 8 x 8 positions of 64 pixels."""

FORMATS = {
    "onnx": ["--out", "model.onnx"],
    "int8": ["--precision", "int8", "--calibration", DATA, "--out", "model.int8.onnx"],
    "openvino": ["--format", "openvino", "--out", "model.openvino.xml"],
    "ncnn": ["--format", "ncnn", "--out", "model.ncnn.param"],
}


@dataclass(frozen=True, slots=True)
class Step:
    """One command, what it is called in the results, and which of `--steps` it belongs to."""

    group: str
    name: str
    words: list[str]

    @property
    def shown(self) -> str:
        return shlex.join(["hwnas", *self.words])


def steps(given: argparse.Namespace) -> Iterator[Step]:
    """All commands, in order."""
    search = ["--device", "cpu-x86", "--budget", given.budget, "--trials", "500"]
    yield Step("search", "search", ["search", *search, "--out", "run"])
    for step in TRAININGS:
        name, arch, *words = step.split()
        epochs = {"teacher": given.teacher_epochs, "finer": given.finer_epochs}.get(name, given.epochs)
        settings = ["--data", DATA, *words, "--stem-stride", "8", "--batch", "64", "--epochs", str(epochs)]
        yield Step("train", name, ["train", arch, *settings, "--accelerator", "cpu", "--out", name])
    for name in (step.split()[0] for step in TRAININGS):
        yield Step("evaluate", f"evaluate {name}", ["evaluate", name, "--data", DATA, "--accelerator", "cpu"])
    yield Step("explain", "explain", ["explain", "finer", "--data", DATA, "--out", "explained"])
    for name, words in FORMATS.items():
        yield Step("export", f"export {name}", ["export", "finer", *words, "--evaluate", DATA])
    beside = ["--device", "cpu-x86", "--allow-mismatch"]
    yield Step("measure", "measure searched", ["measure", "run#1", *beside])
    for name, words in FORMATS.items():
        yield Step("measure", f"measure {name}", ["measure", words[-1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="train/CLASS and test/CLASS; folder or tar")
    parser.add_argument("--work", type=Path, required=True, help="a folder outside the project")
    parser.add_argument(
        "--steps", default="search,train,evaluate,explain,export,measure", help="which of these"
    )
    parser.add_argument("--again", action="store_true", help="the chosen steps although they are done")
    parser.add_argument("--budget", default="2ms", help="at 224 pixels, on cpu-x86")
    parser.add_argument("--images", type=int, default=4000, help="to train on, equally many of each class")
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=3)
    parser.add_argument("--finer-epochs", type=int, default=1)
    parser.add_argument("--results", type=Path, default=HERE)
    given = parser.parse_args()
    chosen = given.steps.split(",")
    given.work.mkdir(parents=True, exist_ok=True)
    make_subset(given.data, given.work / DATA, {"train": given.images, "test": given.test_images})
    answers = {}
    for step in steps(given):
        kept = given.work / "answers" / f"{step.name.replace(' ', '-')}.json"
        if step.group in chosen:
            run(step, given.work, kept, again=given.again)
        if kept.exists():
            answers[step.name] = json.loads(kept.read_text())
    (given.results / "results.json").write_text(json.dumps(answers, indent=1) + "\n")
    (given.results / "results.md").write_text(summary(answers))
    print(summary(answers))


def make_subset(data: Path, folder: Path, counts: dict[str, int]) -> None:
    """folder/SPLIT/CLASS/*.jpg: that many images of each split, drawn with seed 0."""
    done = folder / ".complete"
    if done.exists():
        return
    images = open_images(data)
    for split, count in counts.items():
        for image in subset(images.split(split), count, 0):
            (folder / image.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / image.name).write_bytes(images.read(image))
    done.touch()


def run(step: Step, work: Path, kept: Path, *, again: bool) -> None:
    """Runs a step unless its answer is kept; a search or a training that was interrupted goes on."""
    print(step.shown, flush=True)
    words = list(step.words)
    if kept.exists():
        answer = json.loads(kept.read_text())
        if answer["command"] != step.shown:
            raise SystemExit(f"{kept} is of another command: {answer['command']}\nchoose another --work")
        if not again or step.group in ("search", "train"):
            return
    elif step.group == "train" and (work / words[words.index("--out") + 1]).exists():
        words.append("--resume")
    elif step.group == "search" and (work / "run").exists():
        words = ["search", "--resume", "run"]
    began = time.monotonic()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [sys.executable, "-m", "hwnas", *words, "--json"], cwd=work, env=environment, stdout=subprocess.PIPE
    )
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {step.shown}")
    kept.parent.mkdir(exist_ok=True)
    document = without_bulk(json.loads(done.stdout))
    answer = {"command": step.shown, "seconds": round(time.monotonic() - began, 1), "answer": document}
    beside = kept.with_suffix(".partial")
    beside.write_text(json.dumps(answer, indent=1) + "\n")
    beside.replace(kept)


def without_bulk(document: dict[str, Any]) -> dict[str, Any]:
    """An answer without what only a program wants: whole architectures, of a front all but the first."""
    if "front" in document:
        document["front"] = [{**document["front"][0], "arch": None}]
    return {name: value for name, value in document.items() if name not in ("arch", "environment")}


def summary(answers: dict[str, Any]) -> str:
    """The tables of results.md, as far as the steps are done."""
    told = {name: kept["answer"] for name, kept in answers.items()}
    lines = []
    if "search" in told:
        best = told["search"]["front"][0]
        lines += [
            f"Searched: {best['id']}, {best['params'] / 1e6:.2f} M parameters, "
            f"{best['macs'] / 1e6:.1f} M MACs, {best['latency_ms']:.2f} ms predicted on "
            f"{told['search']['device']} ({told['search']['provenance']} table)"
            + ("." if "measure searched" not in told else ", " + measured_beside(told["measure searched"])),
            "",
        ]
    trained = {
        name.removeprefix("evaluate "): own for name, own in told.items() if name.startswith("evaluate ")
    }
    if trained:
        lines += [
            "| training | network | best epoch | top-1 (%) | top-5 (%) | images |",
            "|---|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {name} | {own['name']}, {own['id']} | {own['epoch']} | {own['top1_percent']:.2f} "
            f"| {own['top5_percent']:.2f} | {own['images']} |"
            for name, own in trained.items()
        ]
        lines.append("")
    if "explain" in told:
        lines += [
            "| attention of the finer network | kind | heads | maps, cosine | outputs, CKA |",
            "|---|---|---:|---:|---:|",
            *(
                f"| {own['place']} | {own['kind']} | {own['heads']} "
                f"| {'one map' if own['maps_cosine'] is None else own['maps_cosine']['mean_of_others']} "
                f"| {own['outputs_cka']['mean_of_others']} |"
                for own in told["explain"]["heads"]
            ),
            "",
        ]
    exported = {name: told[f"export {name}"] for name in FORMATS if f"export {name}" in told}
    if exported:
        lines += [
            "| export | MiB | top-1 before (%) | top-1 after (%) | same class (%) | ms measured | rounds "
            "| CPU share |",
            "|---|---:|---:|---:|---:|---:|---|---:|",
        ]
        for name, own in exported.items():
            accuracy = own["accuracy"]["exported"]
            cells = [
                f"{own['size_bytes'] / 2**20:.2f}",
                f"{accuracy['top1_before_percent']:.2f}",
                f"{accuracy['top1_after_percent']:.2f}",
                f"{accuracy['agreement_percent']:.2f}",
                *timing(told.get(f"measure {name}")),
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measured_beside(document: dict[str, Any]) -> str:
    """What the searched network took here, in the form and at the size that it was searched in."""
    milliseconds, rounds, share = timing(document)
    machine = f"{document['board']}, {document['runtime']} {document['runtime_version']}"
    return f"{milliseconds} ms measured ({machine}; rounds {rounds}; CPU share {share})."


def timing(measured: dict[str, Any] | None) -> list[str]:
    """Milliseconds, the fastest and the slowest round, and the least share of the CPU that one got."""
    if measured is None:
        return ["", "", ""]
    (row,) = measured["networks"]
    rounds = f"{row['measured_low_ms']:.3f} to {row['measured_high_ms']:.3f}"
    return [f"{row['measured_ms']:.3f}", rounds, f"{row['cpu_share']:.2f}"]


if __name__ == "__main__":
    main()
