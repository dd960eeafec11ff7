"""train(), load_model(), and the TrainedModel that they return."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.api.networks import Arch, arch_of
from hwnas.api.searching import Run
from hwnas.errors import HwnasError
from hwnas.named import promise_of_run, promise_of_weights, start_of
from hwnas.search import Candidate
from hwnas.space import ArchSpec
from hwnas.space.changes import renamed

if TYPE_CHECKING:
    from hwnas.train.callbacks import Callback
    from hwnas.train.checkpoint import Checkpoint, EpochRecord
    from hwnas.train.evaluation import Evaluation
    from hwnas.train.recipe import Recipe

__all__ = ["TrainedModel", "load_model", "train"]


@dataclass(frozen=True, slots=True, repr=False)
class TrainedModel:
    """A trained classifier: the best weights of a training, and how they came about."""

    path: Path
    """The folder of the training, or a checkpoint file."""
    checkpoint: Checkpoint
    """Architecture, weights (`state_dict`), class names, recipe, history."""

    @property
    def arch(self) -> ArchSpec:
        """The architecture as trained, adapted to the images' size and classes."""
        return self.checkpoint.arch

    @property
    def name(self) -> str:
        """What the network is called."""
        return self.checkpoint.name or self.path.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the outputs."""
        return self.checkpoint.classes_names

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """A record for each finished epoch up to these weights."""
        return self.checkpoint.history

    def network(self) -> Any:
        """The torch module in eval mode: (N, 3, side, side) normalised RGB -> (N, classes) logits."""
        from hwnas.train.checkpoint import trained_network

        return trained_network(self.checkpoint)

    def evaluate(self, data: str | Path, *, accelerator: str = "auto") -> Evaluation:
        """Top-1 and top-5 accuracy in % on the val images of `data` (test images where there is no val).

        `accelerator` is "auto", "cpu" or "cuda". Raises UsageError for data without images or with classes
        that the network does not know.
        """
        from hwnas.data.sources import open_images
        from hwnas.train.accelerator import choose_accelerator
        from hwnas.train.evaluation import evaluate_checkpoint

        return evaluate_checkpoint(
            self.checkpoint, open_images(Path(data)), device=choose_accelerator(accelerator)
        )

    def __repr__(self) -> str:
        last = f", top-1 {self.history[-1].top1_percent:.2f} %" if self.history else ""
        return (
            f"TrainedModel({self.path}: {self.name}, {len(self.classes)} classes, "
            f"{self.arch.resolution} px, epoch {self.checkpoint.epoch}{last})"
        )


def train(
    arch: Arch,
    *,
    data: str | Path,
    out: str | Path,
    recipe: str | Path | Recipe = "imagenet",
    overrides: Mapping[str, int | float | str | bool] | None = None,
    init: str | Path | None = None,
    run: Run | None = None,
    over_budget: str = "stop",
    limit: int | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    callback: Callback | None = None,
    log_to: str | Sequence[str] = (),
) -> TrainedModel:
    """Trains a network on images and returns it with its best weights.

        model = hwnas.train("uniform-t", data="photos.tar", recipe="small",
                            overrides={"epochs": 8}, out="trained")

    arch: an architecture, a network of a front, or a name: a preset, a YAML file, "runs/a#1".
    data: DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test): a folder, a tar of one, shards, or a
        set by name ("cifar10:PATH").
    out: folder for checkpoints and result.json.
    recipe: a recipe's name, its YAML file, or a `Recipe`. It may change image size and stem stride.
    overrides: fields of the recipe to change. With `epochs`, warm-up is at most a quarter of them.
    init: weights to start from: a training, a .safetensors file, a preset, "published", "supernet:PATH".
    run: the run that found `arch`: its latency budgets are kept in the checkpoint. "runs/a#1" brings them.
    over_budget: "stop" raises OverBudgetError when data or recipe make the network exceed the budget of
        its run; "ok" trains it.
    limit: number of training images, equally many per class.
    resume: continue the training in `out` after its last finished epoch.
    accelerator: "auto" (a GPU if there is one), "cpu" or "cuda".
    callback: progress; see `hwnas.train.callbacks.Callback`.
    log_to: dashboards to report to: "tensorboard:FOLDER", "mlflow:URI", "wandb:PROJECT".

    Writes report.html into `out`.

    Raises UsageError for data, recipe or folder that do not fit, TrainingFailed when the loss is not
    finite, MissingPackageError without torch. Interrupted, the last finished epoch is on the disk.
    """
    for package in ("torch", "torchvision", "timm", "safetensors"):
        plugins.require(package, extra="torch")
    from hwnas.data.sources import open_images
    from hwnas.predictors.latency.budget_check import hold_budgets
    from hwnas.report import write_training_report
    from hwnas.train import checkpoint, training
    from hwnas.train.accelerator import choose_accelerator
    from hwnas.train.loggers import logged
    from hwnas.train.recipe import Recipe, read_recipe
    from hwnas.train.trainings import TABLE, remember, row_of

    folder = Path(out)
    name, spec, promise = arch_of(arch)
    if run is not None:
        promise = promise_of_run(run.result, arch if isinstance(arch, Candidate) else spec)
    promise = promise or promise_of_weights(None if init is None else str(init))
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(str(recipe))
    chosen = _changed(chosen, overrides or {})
    images = open_images(Path(data))
    adapted = chosen.adapted(spec, classes=len(images.classes()))
    is_resumed = resume and any((folder / file).exists() for file in (checkpoint.LAST, checkpoint.PREVIOUS))
    hold_budgets(
        {renamed(name, spec, adapted): (adapted, promise)},
        over_budget="ok" if is_resumed else over_budget,
        say=lambda line: None,
    )
    device = choose_accelerator(accelerator)
    names = [log_to] if isinstance(log_to, str) else log_to
    with logged(callback, names, name=folder.name, settings=chosen.to_dict()) as heard:
        result = training.train(
            spec,
            images,
            chosen,
            folder,
            name=name,
            promise=promise,
            resume=resume,
            init=start_of(None if init is None else str(init)),
            limit=limit,
            device=device,
            callback=heard,
        )
    with contextlib.suppress(HwnasError):  # without the line, `learned` misses this training; it is whole
        remember(row_of(result.document, init=str(init or "")), folder.parent / TABLE)
    with contextlib.suppress(HwnasError):
        write_training_report(folder, images, device=device)
    return load_model(folder)


def load_model(path: str | Path) -> TrainedModel:
    """The trained network in a training's folder (its best epoch) or in a .safetensors file of one.

    Raises UsageError when there is none, FileFormatError when no checkpoint is whole, MissingPackageError
    without torch.
    """
    for package in ("torch", "safetensors"):
        plugins.require(package, extra="torch")
    from hwnas.train.checkpoint import load

    return TrainedModel(Path(path), load(Path(path)))


def _changed(recipe: Recipe, overrides: Mapping[str, int | float | str | bool]) -> Recipe:
    """The recipe with these fields; raises UsageError for an unknown field or a wrong value."""
    if not overrides:
        return recipe
    values = {**recipe.to_dict(), **overrides}
    if "epochs" in overrides and "warmup_epochs" not in overrides:
        values["warmup_epochs"] = min(recipe.warmup_epochs, max(0, float(values["epochs"])) / 4)
    return type(recipe).from_dict(values, source="overrides")
