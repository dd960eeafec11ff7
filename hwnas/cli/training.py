"""What the verbs that train share: where a training goes, how its progress is shown, how it is resumed."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hwnas import plugins
from hwnas.cli.common import write_err
from hwnas.errors import HwnasError, UsageError

if TYPE_CHECKING:
    from hwnas.data.images import Images
    from hwnas.dense.recipe import DenseRecipe
    from hwnas.supernet.settings import Settings as SupernetSettings
    from hwnas.train.callbacks import Callback, FinishedEpoch, Progress
    from hwnas.train.checkpoint import Saved
    from hwnas.train.recipe import Recipe as ClassifierRecipe

__all__ = [
    "AcceleratorOption",
    "BatchOption",
    "Changes",
    "EpochsOption",
    "ImageSizeOption",
    "InitOption",
    "LimitOption",
    "LogToOption",
    "LrOption",
    "OutOption",
    "ResumeOption",
    "SeedOption",
    "SetOption",
    "StemStrideOption",
    "Terminal",
    "WorkersOption",
    "chosen_recipe",
    "file_name",
    "how_to_continue",
    "is_resumed",
    "logging_to",
    "report_training",
    "require_packages",
    "resume_command",
    "training_device",
    "training_folder",
    "with_fields",
]

AcceleratorOption = Annotated[
    str,
    typer.Option(
        "--accelerator",
        metavar="cpu|cuda|auto",
        help="Where to compute; auto uses a GPU if there is one. Earlier name: --device.",
    ),
]
InitOption = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="WEIGHTS",
        help="Initial weights: a training, a .safetensors file, a preset, published (the best matching "
        "preset) or supernet:PATH. Larger weights are sliced.",
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR", help="Folder for checkpoints. Default: trainings/NAME-1, -2, ..."),
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Continue after the last finished epoch. Options that are not given stay the same."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change any field of the recipe, e.g. weight_decay=0.03. Repeatable.",
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        "--epochs",
        metavar="N",
        help="Number of epochs; at most a quarter of them is warm-up. Default: the recipe's.",
    ),
]
BatchOption = Annotated[
    int | None, typer.Option("--batch", metavar="N", help="Batch size. Default: the recipe's.")
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        help="Number of training images, equally many per class.",
    ),
]
LogToOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        metavar="DASHBOARD",
        help="Also report to a dashboard: tensorboard:FOLDER, mlflow:URI or wandb:PROJECT. Repeatable.",
    ),
]
LrOption = Annotated[
    float | None,
    typer.Option("--lr", metavar="X", help="Peak learning rate at this batch size. Default: the recipe's."),
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option("--image-size", metavar="N", help="Image side in pixels, e.g. 64. Default: the recipe's."),
]
StemStrideOption = Annotated[
    int | None,
    typer.Option(
        "--stem-stride",
        metavar="S",
        help="Stem stride: 16, 8 or 4 (image side over feature-map side after the stem).",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="Number of processes that decode images.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="S", help="Random seed. Default: the recipe's.")
]


Recipe = TypeVar("Recipe", "ClassifierRecipe", "DenseRecipe")
Plain = TypeVar("Plain", "ClassifierRecipe", "DenseRecipe", "SupernetSettings")


def require_packages() -> None:
    """Raises MissingPackageError when something that every training needs is not installed."""
    for package in ("torch", "torchvision", "timm", "safetensors"):
        plugins.require(package, extra="torch")


def training_device(accelerator: str) -> str:
    """`cpu` or `cuda`; raises UsageError for anything else, and for a GPU that is not there."""
    from hwnas.train.accelerator import choose_accelerator

    return choose_accelerator(accelerator)


@contextmanager
def how_to_continue(callback: Callback, again: str) -> Iterator[None]:
    """Says, when the training is interrupted, the command that continues it."""
    try:
        yield
    except KeyboardInterrupt:
        callback.note("interrupted; the last finished epoch is kept. To continue:")
        callback.note(f"  {again}")
        raise


def logging_to(
    callback: Callback, log_to: list[str] | None, folder: Path, recipe: Any
) -> AbstractContextManager[Callback]:
    """The callback, which also reports to the dashboards of --log-to, in the first process alone."""
    from hwnas.train.loggers import logged

    names = (log_to or []) if os.environ.get("RANK", "0") == "0" else []
    return logged(callback, names, name=folder.name, settings=recipe.to_dict())


def report_training(
    folder: Path, callback: Callback, images: Images | None = None, *, device: str = "cpu"
) -> None:
    """Writes the training's report and says where it is; a report that fails leaves the training whole."""
    from hwnas.report import write_training_report

    try:
        callback.note(f"report: {write_training_report(folder, images, device=device)}")
    except HwnasError as error:
        callback.note(f"no report: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the command line changes of a recipe; None leaves the recipe's own."""

    epochs: int | None
    batch: int | None
    lr: float | None
    """At this batch size."""
    image_size: int | None
    stem_stride: int | None
    seed: int | None
    workers: int | None = None
    settings: list[str] | None = None
    """Any fields, as FIELD=VALUE; they win."""

    def of(self, recipe: Recipe, **more: int | None) -> Recipe:
        """The changed recipe, with `more` fields changed unless they are None.

        Raises UsageError as for a recipe file.
        """
        same = ("epochs", "image_size", "stem_stride", "seed", "workers")
        asked = {"batch_size": self.batch, **{name: getattr(self, name) for name in same}, **more}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if "epochs" in given:  # the recipe's warm-up is meant for its own length
            given["warmup_epochs"] = min(recipe.warmup_epochs, max(0, given["epochs"]) / 4)
        if self.lr is not None:
            given |= {"lr": self.lr, "lr_batch_size": given.get("batch_size", recipe.batch_size)}
        return with_fields(dataclasses.replace(recipe, **given), self.settings or [])

    def options(self) -> dict[str, Any]:
        """As `resume_command` takes them."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"set": own.pop("settings"), **own}


def with_fields(recipe: Plain, settings: list[str]) -> Plain:
    """The recipe with fields given as FIELD=VALUE; raises UsageError as for a recipe file."""
    from hwnas.io import yaml as yaml_io

    if not settings:
        return recipe
    values = recipe.to_dict()
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign:
            raise UsageError(f"--set must be FIELD=VALUE, got '{setting}'")
        is_text = isinstance(values.get(name), str)
        values[name] = text if is_text else yaml_io.parse(f"value: {text}", source="--set")["value"]
    return type(recipe).from_dict(values, source="--set")


def training_folder(context: typer.Context, out: str | None, name: str, *, resume: bool) -> Path:
    """`out`, else trainings/NAME-N: the last one there is to resume, or a new one.

    A new one is made here and is this command's alone; where nothing is written into it, it is gone when the
    command ends. Raises UsageError where there is nothing to resume, and for several processes.
    """
    if out:
        return Path(out)
    from hwnas.io.folders import claimed, next_numbered, numbered

    parent, stem = Path("trainings"), file_name(name)
    if resume:
        if not (taken := numbered(parent, stem)):
            raise UsageError(
                f"there is no training of {name} in {parent} to resume: name its folder with --out"
            )
        return parent / f"{stem}-{taken[-1]}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train into one folder: name it with --out")
    return context.with_resource(claimed(lambda: next_numbered(parent, stem)))


def is_resumed(folder: Path, resume: bool) -> bool:
    """Whether a training goes on: what it is was decided when it began."""
    from hwnas.train.checkpoint import LAST, PREVIOUS

    return resume and any((folder / file).exists() for file in (LAST, PREVIOUS))


def file_name(name: str) -> str:
    """A network's name as a file may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def chosen_recipe(
    asked: str | None,
    resumed: Path | None,
    default: str,
    resume_point: Callable[[Path], Saved[Recipe, Any]],
    read: Callable[[str], Recipe],
) -> tuple[Recipe, int | None]:
    """The recipe asked for, else that of the training that is resumed; and that training's limit."""
    from hwnas.train.checkpoint import LAST, PREVIOUS

    if resumed is not None and any((resumed / file).exists() for file in (LAST, PREVIOUS)):
        saved = resume_point(resumed)
        return (saved.recipe if asked is None else read(asked)), saved.data.get("limit")
    return read(asked or default), None


def resume_command(verb: str, arch: str | None, data: str, folder: Path, options: dict[str, Any]) -> str:
    """The command line that goes on with a training; an option that is None is left out."""

    def words() -> Iterator[str]:
        yield from ("hwnas", *verb.split(), *([] if arch is None else [arch]), "--data", data)
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    yield from (f"--{name.replace('_', '-')}", str(one))
        yield from ("--out", str(folder), "--resume")

    return shlex.join(words())


class Terminal:
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

    def epoch(self, record: FinishedEpoch) -> None:
        self._write(
            f"epoch {record.epoch}: loss {record.loss:.3f}, {record.outcome}, "
            f"lr {record.lr:.2g}, {_duration(record.seconds)}\n"
        )

    def _write(self, text: str) -> None:
        write_err(text, anew=self._is_live)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
