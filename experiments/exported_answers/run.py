"""Do exported files answer as torch does? A classifier, a detector and a segmentation network, on 100 images.

    python experiments/exported_answers/run.py --images CIFAR10 --work WORK [--steps train,export,compare]

CIFAR10 is a folder or tar with train/CLASS/*.jpg and test/CLASS/*.jpg. Every training and export is a `hwnas`
command; one that is done is not repeated, so that the same call goes on where it was interrupted. Writes
results.json and results.md beside this file (or into --results).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm.data
import torch
from PIL import Image

from hwnas.cli.app import main as hwnas
from hwnas.data.decoding import decode
from hwnas.data.images import subset
from hwnas.data.sources import open_images
from hwnas.dense import checkpoint as dense
from hwnas.export.metadata import metadata_in
from hwnas.export.prediction import ClassesFound, MapFound, ObjectsFound, Predictor
from hwnas.train import checkpoint

HERE = Path(__file__).parent
COUNT = 100
ARCH = "efficientvit-m0"
TASKS = ("classify", "detect", "segment")
FILES = {
    "onnx": ("onnx", "fp32"),
    "int8": ("onnx", "int8"),
    "openvino": ("openvino", "fp32"),
    "ncnn": ("ncnn", "fp32"),
    "litert": ("litert", "fp32"),
}
"""Format and precision of each file; a detector and a segmentation network have the first three alone."""
ENDINGS = {"onnx": "onnx", "int8": "int8.onnx", "openvino": "openvino.xml", "ncnn": "ncnn.param",
           "litert": "tflite"}  # fmt: skip
SCORE = 0.06
"""Objects near the threshold of 0.05 may fall on either side of it, and are not compared."""

Answer = Any
"""What torch, `predict` or a card's program says of one image; see the `..._said` functions."""


def command(*words: str | Path) -> None:
    """Runs one command of hwnas in this process; ends when it fails."""
    text = [str(word) for word in words]
    print("hwnas", *text, flush=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = hwnas(tuple(text))
    if code:
        raise SystemExit(f"exit code {code}")


# --- data, trainings, files ---------------------------------------------------------------------


def prepare_data(images: Path, work: Path, seed: int) -> None:
    """WORK/cifar with a part of the images, WORK/shapes, and WORK/photos/TASK with 100 images of neither."""
    if not (work / "cifar").is_dir():
        found = open_images(images)
        for split, count in (("train", 2000), ("test", 200)):
            for image in subset(found.split(split), count, seed):
                (work / "cifar" / image.name).parent.mkdir(parents=True, exist_ok=True)
                (work / "cifar" / image.name).write_bytes(found.read(image))
        (work / "photos" / "classify").mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(subset(found.split("test"), COUNT, seed + 1)):
            (work / "photos" / "classify" / f"{number:03}.jpg").write_bytes(found.read(image))
    if not (work / "shapes").is_dir():
        maker = HERE.parent / "dense" / "make_shapes.py"
        for folder, counts, own in (("shapes", ("200", "50"), seed), ("others", ("1", str(COUNT)), seed + 1)):
            words = [sys.executable, str(maker), str(work / folder), "--train", counts[0]]
            subprocess.run([*words, "--val", counts[1], "--seed", str(own)], check=True)
    for task in TASKS[1:]:
        if not (work / "photos" / task).exists():
            (work / "photos" / task).symlink_to((work / "others" / "val" / "images").resolve())


def train(work: Path, epochs: int) -> None:
    """WORK/TASK: a training of each task."""
    common = ["--recipe", "small", "--epochs", str(epochs), "--accelerator", "cpu", "--stem-stride", "8"]
    for task in TASKS:
        if (work / task / "result.json").exists():
            continue
        resume = ["--resume"] if (work / task).exists() else []
        own = ["train", ARCH, "--data", work / "cifar", "--batch", "64"]
        if task != "classify":
            own = ["dense", "train", ARCH, "--task", task, "--data", work / "shapes", "--workers", "0"]
        command(*own, *common, "--out", work / task, *resume)


def files_of(task: str, work: Path, asked: Sequence[str]) -> dict[str, Path]:
    """The files of a task that are compared."""
    names = [name for name in asked if task == "classify" or name in ("onnx", "int8", "openvino")]
    return {name: work / f"{task}.{ENDINGS[name]}" for name in names}


def export(work: Path, asked: Sequence[str]) -> None:
    """WORK/TASK.ENDING: every file."""
    for task in TASKS:
        data = work / ("cifar" if task == "classify" else "shapes")
        for name, path in files_of(task, work, asked).items():
            if not path.exists():
                model_format, precision = FILES[name]
                more = ["--precision", "int8", "--calibration", data] if precision == "int8" else []
                command("export", work / task, "--format", model_format, *more, "--out", path)


# --- what is said of a photo ---------------------------------------------------------------------


def torch_said(task: str, work: Path, side: int) -> Callable[[Image.Image], Answer]:
    """Torch's own network, by torch's own preprocessing and torchvision's own postprocessing.

    Photos of a detector are filled up to the square of `side` pixels that the exported file takes.
    """
    if task == "classify":
        trained = checkpoint.load(work / task)
        network = checkpoint.trained_network(trained)
        crop = trained.recipe.augmentation.eval_crop
        transform: Any = timm.data.create_transform(
            side, is_training=False, crop_pct=crop, interpolation="bicubic"
        )

        def classes(photo: Image.Image) -> Answer:
            with torch.no_grad():
                return network(transform(photo)[None]).softmax(1)[0].numpy()

        return classes
    inner: Any = dense.trained_network(dense.load(work / task))
    inner.inner.transform.size_divisible = side

    def objects(photo: Image.Image) -> Answer:
        with torch.no_grad():
            (found,) = inner([torch.from_numpy(np.array(photo)).permute(2, 0, 1)])
        if task == "segment":
            return found["map"].numpy()
        rows = zip(*(found[name].tolist() for name in ("labels", "scores", "boxes")), strict=True)
        return [(label - 1, score, box) for label, score, box in rows if label > 0]

    return objects


def predict_said(file: Path) -> Callable[[Image.Image], Answer]:
    """`hwnas predict`."""
    predictor = Predictor.open(file)

    def said(photo: Image.Image) -> Answer:
        found = predictor(photo)
        if isinstance(found, ClassesFound):
            return found.probabilities
        if isinstance(found, MapFound):
            return found.classes
        assert isinstance(found, ObjectsFound)
        own = found.found
        return list(zip(own.labels.tolist(), own.scores.tolist(), own.boxes.tolist(), strict=True))

    return said


def card_said(task: str, file: Path, photos: Sequence[Path], work: Path) -> list[Answer]:
    """The program in the model card, run alone in a process that cannot import hwnas."""
    card = file.with_name(f"{file.name}.card.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert found is not None
    script = f"""
import contextlib, io, json, pathlib, shutil, sys
sys.modules["hwnas"] = None
answers = []
for photo in {[str(photo.resolve()) for photo in photos]!r}:
    shutil.copy(photo, "photo.jpg")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile({found.group(1)!r}, "card", "exec"), {{}})
    answers.append(said.getvalue())
pathlib.Path("answers.json").write_text(json.dumps(answers))
"""
    subprocess.run([sys.executable, "-c", script], cwd=work, check=True)
    names = list(metadata_in(file).classes_names or ())
    texts = json.loads((work / "answers.json").read_text())
    if task == "classify":
        return [names.index(text.strip()) for text in texts]
    if task == "segment":
        return [[int(line.rpartition(" ")[2]) for line in text.splitlines()] for text in texts]
    rows = [[line.split() for line in text.splitlines()] for text in texts]
    return [
        [(names.index(row[0]), float(row[1]), [float(side) for side in row[2:]]) for row in own]
        for own in rows
    ]


# --- comparing ------------------------------------------------------------------------------------


def matched(own: Sequence[Any], others: Sequence[Any], *, score: float, pixels: float) -> tuple[int, int]:
    """(Objects clearly above the threshold with their like among the others, all of these), both ways."""
    found = total = 0
    for one, two in ((own, others), (others, own)):
        for label, own_score, box in one:
            if own_score <= SCORE:
                continue
            total += 1
            found += any(
                label == other and abs(own_score - its) <= score and np.allclose(box, its_box, atol=pixels)
                for other, its, its_box in two
            )
    return found, total


def compared(task: str, torchs: Sequence[Answer], files: Sequence[Answer], cards: Sequence[Answer],
             *, int8: bool) -> dict[str, Any]:  # fmt: skip
    """How far `predict` and the card's program agree with torch."""
    if task == "classify":
        best = [int(answer.argmax()) for answer in torchs]
        return {
            "predict_same_percent": 100
            * float(np.mean([int(own.argmax()) for own in files] == np.array(best))),
            "card_same_percent": 100 * float(np.mean(np.array(cards) == best)),
            "largest_difference": float(np.abs(np.array(files) - np.array(torchs)).max()),
        }
    if task == "segment":
        pixels = sum(answer.size for answer in torchs)
        same = sum(int((own == answer).sum()) for own, answer in zip(files, torchs, strict=True))
        moved = [
            np.abs(np.bincount(answer.reshape(-1), minlength=len(card)) - card).sum() / 2
            for answer, card in zip(torchs, cards, strict=True)
        ]
        return {
            "predict_same_percent": 100 * same / pixels,
            "card_same_percent": 100 * (1 - sum(moved) / pixels),
            "largest_difference": None,
        }
    limits = {"score": 0.1, "pixels": 4.0} if int8 else {"score": 1e-3, "pixels": 0.05}
    shares = {}
    for name, answers in (("predict", files), ("card", cards)):
        pairs = [matched(own, answer, **limits) for own, answer in zip(answers, torchs, strict=True)]
        shares[f"{name}_same_percent"] = 100 * sum(a for a, _ in pairs) / max(sum(b for _, b in pairs), 1)
        shares["objects"] = sum(b for _, b in pairs) // 2
    return {**shares, "largest_difference": None}


def compare(work: Path, asked: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each file."""
    rows = []
    for task in TASKS:
        photos = sorted((work / "photos" / task).glob("*.jpg"))[:COUNT]
        pictures = [decode(photo.read_bytes()) for photo in photos]
        found = files_of(task, work, asked)
        side = metadata_in(next(iter(found.values()))).preprocessing.width
        answers = list(map(torch_said(task, work, side), pictures))
        for name, path in found.items():
            own = list(map(predict_said(path), pictures))
            cards = card_said(task, path, photos, work)
            result = compared(task, answers, own, cards, int8=name == "int8")
            rows.append({"task": task, "file": name, "images": len(photos), **result})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| task | file | images | `predict` as torch, % | card's program as torch, % | largest difference |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        images = f"{row['images']}" + (f" ({row['objects']} objects)" if "objects" in row else "")
        largest = "" if row["largest_difference"] is None else f"{row['largest_difference']:.1e}"
        lines.append(
            f"| {row['task']} | {row['file']} | {images} | {row['predict_same_percent']:.2f} "
            f"| {row['card_same_percent']:.2f} | {largest} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", default="train,export,compare")
    parser.add_argument("--files", nargs="+", choices=FILES, default=["onnx", "int8", "openvino", "ncnn"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE)
    asked = parser.parse_args()
    steps, work = asked.steps.split(","), asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if "train" in steps:
        prepare_data(asked.images, work, 0)
        train(work, asked.epochs)
    if "export" in steps:
        export(work, asked.files)
    if "compare" in steps:
        rows = compare(work, asked.files)
        (asked.results / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
        (asked.results / "results.md").write_text(table(rows))
        print(table(rows))


if __name__ == "__main__":
    main()
