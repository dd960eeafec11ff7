"""`hwnas train`: a network and a folder of images -> a checkpoint, resumable at any time."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas import plugins
from hwnas.cli.common import ArchArgument, JsonOption, emit_json, resolve_arch
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.train.checkpoint import EpochRecord
    from hwnas.train.loop import Progress
    from hwnas.train.recipe import Recipe

__all__ = ["DataOption", "command", "training_device"]

DEFAULT_RECIPE = "imagenet"

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Images as DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test): a folder, or a .tar, "
        ".tar.gz, .tar.bz2 or .tar.xz of one.",
    ),
]
TrainingDeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="cpu|cuda|auto", help="Where to compute; auto takes a GPU if there is one."
    ),
]


def command(
    arch: ArchArgument,
    data: DataOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help=f"One of hwnas (imagenet, small, ...) or a YAML file; without it {DEFAULT_RECIPE}.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="DIR", help="Where checkpoints go; without it trainings/NAME-1 and so on."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on after the last finished epoch; options not given stay as they were."
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="WEIGHTS",
            help="Start from weights, sliced and resized where they are larger: a training, a .safetensors "
            "file, a preset, or published (the preset that fits best).",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Any field of the recipe, such as teacher=RUN; repeatable."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Instead of the recipe's; a quarter at most is warm-up."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", help="Instead of the recipe's.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr", metavar="X", help="Peak learning rate at the batch size, instead of the recipe's."
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", metavar="N", help="Side of the images in pixels.")
    ] = None,
    stem_stride: Annotated[
        int | None,
        typer.Option(
            "--stem-stride", metavar="S", help="16, 8 or 4: image side over feature-map side after the stem."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            help="Train on N images only, equally many of each class, drawn by the seed.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", help="Decoding processes.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", help="Instead of the recipe's.")] = None,
    device: TrainingDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a network on a folder (or a tar) of images.

    The network is adapted to the number of classes, and to --image-size and --stem-stride. After each
    epoch a checkpoint is on the disk; whatever stops the training, --resume repeats at most one epoch.

    Example: hwnas train uniform-t --data cifar10.tar.xz --recipe small --epochs 4
    """
    _require_packages()
    name, spec = resolve_arch(arch)
    from hwnas.train.images import open_images
    from hwnas.train.loop import train

    folder = Path(out) if out else _default_folder(name, resume)
    changes = {
        "epochs": epochs,
        "batch_size": batch,
        "image_size": image_size,
        "stem_stride": stem_stride,
        "workers": workers,
        "seed": seed,
    }
    chosen, saved_limit = _chosen_recipe(recipe, folder if resume else None, changes, lr, settings or [])
    limit = saved_limit if limit is None else limit
    on = training_device(device)
    images = open_images(Path(data))
    options: dict[str, Any] = {
        **{key.replace("_size", "") if key == "batch_size" else key: value for key, value in changes.items()},
        "recipe": recipe,
        "init": init,
        "lr": lr,
        "limit": limit,
        "device": device if device != "auto" else None,
        "set": settings,
    }
    resume_command = _resume_command(arch, data, folder, options)
    observer = _Terminal()
    if int(os.environ.get("RANK", "0")) == 0:
        observer.note(f"training {name} ({spec.id}) on {on} into {folder}")
    try:
        result = train(
            spec,
            images,
            chosen,
            folder,
            name=name,
            resume=resume,
            init=init,
            limit=limit,
            device=on,
            observer=observer,
        )
    except KeyboardInterrupt:
        observer.note("interrupted; the last finished epoch is kept. To go on:")
        observer.note(f"  {resume_command}")
        raise
    if int(os.environ.get("RANK", "0")):  # of several processes, the first one speaks
        return
    last, best = result.history[-1], result.best
    if as_json:
        emit_json({**result.document, "out": str(folder)})
    else:
        sys.stdout.write(
            f"{name}: top-1 {last.top1_percent:.2f} %, top-5 {last.top5_percent:.2f} % "
            f"after epoch {last.epoch}; "
            f"best top-1 {best.top1_percent:.2f} % after epoch {best.epoch}\n"
        )
    checkpoint = shlex.quote(str(folder))
    observer.note(f"next: hwnas evaluate {checkpoint} --data {shlex.quote(data)}")
    observer.note(f"      hwnas export {checkpoint} --out {shlex.quote(f'{_file_name(name)}.onnx')}")


def training_device(asked: str) -> str:
    """`cpu` or `cuda`; raises UsageError for anything else, and for a GPU that isn't there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device must be auto, cpu or cuda here, got '{asked}'")
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageError(
            "--device cuda needs a GPU that this torch can use, there is none: 'hwnas doctor' says more"
        )
    return "cuda" if there and asked != "cpu" else "cpu"


def _require_packages() -> None:
    for package in ("torch", "torchvision", "timm", "safetensors"):
        plugins.require(package, extra="torch")


def _chosen_recipe(
    asked: str | None,
    resumed: Path | None,
    changes: dict[str, int | None],
    lr: float | None,
    settings: list[str],
) -> tuple[Recipe, int | None]:
    """The recipe with the command line's changes, and the limit of a training that is resumed."""
    from hwnas.train import checkpoint
    from hwnas.train.recipe import read_recipe

    limit = None
    if resumed is not None and any(
        (resumed / file).exists() for file in (checkpoint.LAST, checkpoint.PREVIOUS)
    ):
        saved = checkpoint.resume_point(resumed)
        recipe = saved.recipe if asked is None else read_recipe(asked)
        limit = saved.data.get("limit")
    else:
        recipe = read_recipe(asked or DEFAULT_RECIPE)
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if "epochs" in given:  # the recipe's warm-up is meant for its own length
        given["warmup_epochs"] = min(recipe.warmup_epochs, max(0, given["epochs"]) / 4)
    if lr is not None:
        given |= {"lr": lr, "lr_batch_size": given.get("batch_size", recipe.batch_size)}
    recipe = dataclasses.replace(recipe, **given)
    return (_with_settings(recipe, settings) if settings else recipe), limit


def _with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe with fields given as text; raises UsageError as for a recipe file."""
    from hwnas import yaml_io

    values = recipe.to_dict()
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign:
            raise UsageError(f"--set must be FIELD=VALUE, got '{setting}'")
        is_text = isinstance(values.get(name), str)
        values[name] = text if is_text else yaml_io.parse(f"value: {text}", source="--set")["value"]
    return type(recipe).from_dict(values, source="--set")


def _default_folder(name: str, resume: bool) -> Path:
    """trainings/NAME-N: the next free number, or the last one taken when resuming."""
    parent, stem = Path("trainings"), _file_name(name)
    taken = [
        int(folder.name.removeprefix(f"{stem}-"))
        for folder in parent.glob(f"{stem}-*")
        if folder.name.removeprefix(f"{stem}-").isdecimal()
    ]
    if resume and not taken:
        raise UsageError(f"there is no training of {name} in {parent} to resume: name its folder with --out")
    return parent / f"{stem}-{max(taken, default=0) + (not resume)}"


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def _resume_command(arch: str, data: str, folder: Path, options: dict[str, Any]) -> str:
    def words() -> Iterator[str]:
        yield from ("hwnas", "train", arch, "--data", data)
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    yield from (f"--{name.replace('_', '-')}", str(one))
        yield from ("--out", str(folder), "--resume")

    return shlex.join(words())


class _Terminal:
    """Progress on stderr: a line that is rewritten on a terminal, one now and then elsewhere."""

    EVERY_S = 30.0

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()
        self._last_s = time.monotonic()

    def note(self, text: str) -> None:
        self._write(text + "\n")

    def step(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last_s < (0.2 if self._is_live else self.EVERY_S):
            return
        self._last_s = now
        text = (
            f"epoch {progress.epoch}/{progress.epochs}, update {progress.step}/{progress.steps}: "
            f"loss {progress.loss:.3f}, {progress.images_per_second:.0f} images/s, "
            f"about {_duration(progress.seconds_left)} left"
        )
        self._write(text if self._is_live else text + "\n")

    def epoch(self, record: EpochRecord) -> None:
        self._write(
            f"epoch {record.epoch}: loss {record.loss:.3f}, top-1 {record.top1_percent:.2f} %, "
            f"lr {record.lr:.2g}, {_duration(record.seconds)}\n"
        )

    def _write(self, text: str) -> None:
        sys.stderr.write(("\r\x1b[K" if self._is_live else "") + text)
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
