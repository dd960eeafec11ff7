"""The whole way from a search to files on a board, by the README's own commands, on CIFAR-10 (JPEG).

Every command is `hwnas ...` as a user would type it; they run in the work folder, are shown, and what each
answered is kept there, so that the same call goes on where it was interrupted. Writes results.json and
results.md.

    python experiments/search_to_board/run.py --data cifar10-jpeg.tar.xz --work /tmp/search_to_board
    python experiments/search_to_board/run.py --data ... --work ... --steps measure --again
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.images import subset
from hwnas.data.sources import open_images
from hwnas.metrics import coverage_percent, mape_percent, spearman, within_percent

HERE = Path(__file__).parent
DATA = "images"
"""The part of the data that everything sees, in the work folder."""

TRAININGS = (
    "teacher uniform-s --recipe small",
    "published uniform-t --recipe small",
    "trained run#1 --recipe small",
    "distilled run#1 --recipe small --set teacher=teacher",
    "finer run#1 --recipe small-finetune --init distilled",
)
"""Name, network and words of each. All have a stem of stride 8, which leaves 8 x 8 positions of 64 pixels."""

KILLED = "published"
"""The training that is ended by SIGKILL in its second epoch, and resumed."""

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
    search = ["--device", given.device, "--budget", given.budget, "--trials", "500"]
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
    beside = ["--device", given.device, "--allow-mismatch"]
    yield Step("measure", "measure front", ["measure", "run", "presets", *beside])
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
    parser.add_argument("--device", default="cpu-x86", help="one that was measured on this machine")
    parser.add_argument("--budget", default="2ms", help="at 224 pixels, on the device")
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
    command = [sys.executable, "-m", "hwnas", *words, "--json"]
    killed = None
    if step.name == KILLED and "--resume" not in words:
        killed = kill_in_second_epoch(command, work, environment, work / step.name / "history.jsonl")
        command.append("--resume")
    done = subprocess.run(command, cwd=work, env=environment, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {step.shown}")
    kept.parent.mkdir(exist_ok=True)
    document = without_bulk(json.loads(done.stdout))
    answer = {"command": step.shown, "seconds": round(time.monotonic() - began, 1), "answer": document}
    if killed:
        answer["killed"] = killed
    beside = kept.with_suffix(".partial")
    beside.write_text(json.dumps(answer, indent=1) + "\n")
    beside.replace(kept)


def kill_in_second_epoch(command: list[str], work: Path, environment: dict[str, str], history: Path) -> str:
    """Starts the training and ends it with SIGKILL in the middle of its second epoch; says when."""
    with subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.DEVNULL) as process:
        while not history.exists():
            if process.poll() is not None:
                raise SystemExit("the training ended before it could be killed")
            time.sleep(0.2)
        wait_s = 0.4 * json.loads(history.read_text().splitlines()[0])["seconds"]
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
    finished = len(history.read_text().splitlines())
    return f"SIGKILL {wait_s:.0f} s into epoch {finished + 1}, resumed after epoch {finished}"


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
            f"{told['search']['device']} ({told['search']['provenance']} table).",
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
        lines += [f"{name}: {kept['killed']}.\n" for name, kept in answers.items() if "killed" in kept]
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
    if "measure front" in told:
        lines += ["", *predicted_and_measured(told["measure front"])]
    return "\n".join(lines) + "\n"


def predicted_and_measured(document: dict[str, Any]) -> list[str]:
    """The front and the presets: measured milliseconds beside those that the table predicted."""
    networks = document["networks"]
    front = [row for row in networks if "#" in row["name"]]
    published = [row for row in networks if "#" not in row["name"] and not outside(row["name"])]
    lines = [
        f"Measured on: {document['board']}; {document['runtime']} {document['runtime_version']}, "
        f"{document['threads']} thread, batch {document['batch']}, {document['precision']}.",
        "",
        "| networks | count | MAPE | within 5 % | within 10 % | Spearman | in the 90 % interval |",
        "|---|---|---|---|---|---|---|",
        accuracy_of("the front", front),
        accuracy_of("presets of the default space", published),
        "",
        "| network | measured ms | predicted ms (90 % interval) | error |",
        "|---|---|---|---|",
    ]
    for row in networks:
        mark = " (not of the default space)" if outside(row["name"]) else ""
        interval = f"{row['predicted_low_ms']:.3f} to {row['predicted_high_ms']:.3f}"
        lines.append(
            f"| {row['name']}{mark} | {row['measured_ms']:.3f} | {row['predicted_ms']:.3f} ({interval}) "
            f"| {row['error_percent']:+.1f} % |"
        )
    return lines


def outside(name: str) -> bool:
    """Whether the preset is of another design than the one that is searched."""
    return name.startswith("elevit") or name == "uniform-t-paper"


def accuracy_of(label: str, rows: Sequence[dict[str, Any]]) -> str:
    """How good the predictions are, as a row."""
    measured = [row["measured_ms"] for row in rows]
    predicted = [row["predicted_ms"] for row in rows]
    low, high = ([row[f"predicted_{end}_ms"] for row in rows] for end in ("low", "high"))
    order = spearman(measured, predicted)
    return (
        f"| {label} | {len(rows)} | {mape_percent(measured, predicted):.1f} % "
        f"| {within_percent(measured, predicted, 5):.0f} % | {within_percent(measured, predicted, 10):.0f} % "
        f"| {'' if order is None else f'{order:.3f}'} | {coverage_percent(measured, low, high):.0f} % |"
    )


def timing(measured: dict[str, Any] | None) -> list[str]:
    """Milliseconds, the fastest and the slowest round, and the least share of the CPU that one got."""
    if measured is None:
        return ["", "", ""]
    (row,) = measured["networks"]
    rounds = f"{row['measured_low_ms']:.3f} to {row['measured_high_ms']:.3f}"
    return [f"{row['measured_ms']:.3f}", rounds, f"{row['cpu_share']:.2f}"]


if __name__ == "__main__":
    main()
