"""`hwnas supernet`: train shared weights for a space, evaluate networks with them, calibrate that."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import JsonOption, OverBudgetOption, emit_json, say, stdout
from hwnas.cli.limits import parse_limits
from hwnas.cli.train import DataOption
from hwnas.cli.training import (
    AcceleratorOption,
    BatchOption,
    EpochsOption,
    ImageSizeOption,
    LogToOption,
    OutOption,
    ResumeOption,
    SeedOption,
    SetOption,
    StemStrideOption,
    Terminal,
    how_to_continue,
    logging_to,
    report_training,
    require_packages,
    resume_command,
    training_device,
    training_folder,
    with_fields,
)
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.space import ArchSpec, SearchSpace
    from hwnas.supernet import Settings, SubnetEvaluator
    from hwnas.targets import Promise

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Train one set of weights for all networks of a space, and evaluate networks with it.",
)

PathArgument = Annotated[str, typer.Argument(metavar="PATH", help="Supernet folder, or a checkpoint in it.")]
TuningDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Images that the supernet was trained on; each network first trains on them alone.",
    ),
]
UpdatesOption = Annotated[
    int | None, typer.Option("--updates", metavar="N", min=1, help="Number of updates with --data (140).")
]


@app.command()
def train(
    context: typer.Context,
    data: DataOption,
    space: Annotated[
        str | None,
        typer.Option("--space", metavar="FILE", help="Search space: a YAML file or a name (default)."),
    ] = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate.")] = None,
    image_size: ImageSizeOption = None,
    stem_stride: StemStrideOption = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Number of training images, equally many per class."),
    ] = None,
    max_macs: Annotated[
        str | None,
        typer.Option(
            "--max-macs", metavar="N", help="Maximum MACs of the networks that are trained, e.g. 100M."
        ),
    ] = None,
    settings: SetOption = None,
    seed: SeedOption = None,
    accelerator: AcceleratorOption = "auto",
    log_to: LogToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one set of weights that all networks of a space share.

    A checkpoint is written after each epoch; --resume repeats one epoch at most. The images are decoded
    once and kept in memory.
    """
    require_packages()
    from hwnas.supernet.trainer import train as train_supernet

    macs = parse_limits(params=None, macs=max_macs, memory=None).get("macs")
    changes = {"epochs": epochs, "batch_size": batch, "lr": lr, "max_macs": macs, "seed": seed}
    folder = training_folder(context, out, "supernet", resume=resume)
    chosen, known_space, known_limit = _before(folder, resume)
    chosen = _changed(chosen, changes, settings or [])
    asked = _space(known_space if space is None else space, image_size, stem_stride)
    options: dict[str, Any] = {
        "space": space,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "image_size": image_size,
        "stem_stride": stem_stride,
        "limit": limit,
        "max_macs": max_macs,
        "set": settings,
        "seed": seed,
        "accelerator": accelerator if accelerator != "auto" else None,
        "log_to": log_to,
    }
    on = training_device(accelerator)
    callback = Terminal()
    if int(os.environ.get("RANK", "0")) == 0:
        callback.note(f"training a supernet for the space '{asked.name}' on {on} into {folder}")
    again = resume_command("supernet train", None, data, folder, options)
    with how_to_continue(callback, again), logging_to(callback, log_to, folder, chosen) as heard:
        result = train_supernet(
            asked,
            Path(data),
            chosen,
            folder,
            limit=known_limit if limit is None else limit,
            resume=resume,
            device=on,
            callback=heard,
        )
    if int(os.environ.get("RANK", "0")):  # of several processes, the first one speaks
        return
    report_training(folder, callback)
    last = result.history[-1]
    if as_json:
        emit_json(
            {
                "schema": 1,
                "out": str(folder),
                "space": result.space.to_dict(),
                "settings": chosen.to_dict(),
                "parameters": result.parameters,
                "history": [dataclasses.asdict(record) for record in result.history],
            }
        )
    else:
        stdout().print(
            f"{folder}: {result.parameters / 1e6:.1f} M shared parameters; after epoch {last.epoch}: "
            f"{last.outcome}, on held-back images",
            soft_wrap=True,
        )
    quoted = shlex.quote(str(folder))
    callback.note(f"next: hwnas supernet evaluate {quoted} uniform-t")
    callback.note(f"      hwnas search --device DEVICE --budget TIME --accuracy supernet:{quoted}")


@app.command()
def evaluate(
    path: PathArgument,
    arch: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH...", help="Networks: presets, YAML files, RUN#2, or a run's folder for its front."
        ),
    ],
    data: TuningDataOption = None,
    updates: UpdatesOption = None,
    accelerator: AcceleratorOption = "auto",
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Evaluate networks with the shared weights, on images held back from the training data.

    With --data, each network first trains alone for some updates: a better order, in about a minute each.
    Networks are evaluated at the supernet's image size, stem stride and classes. For a network of a run,
    latency is predicted again; the command stops when it exceeds the run's budget, unless --over-budget is
    ok.
    """
    require_packages()
    from hwnas.named import subjects
    from hwnas.predictors.accuracy.supernet import SupernetAccuracy
    from hwnas.predictors.latency.budget_check import hold_budgets
    from hwnas.space.changes import renamed
    from hwnas.supernet.calibration import Calibration

    evaluator = _evaluator(path, accelerator, data, updates)
    named: dict[str, ArchSpec] = {}
    promises: dict[str, Promise | None] = {}
    for name, subject in subjects(arch).items():
        adapted = evaluator.adapted(subject.arch)
        called = renamed(name, subject.arch, adapted)
        named[called], promises[called] = adapted, subject.promise
    hold_budgets(
        {name: (adapted, promises[name]) for name, adapted in named.items()}, over_budget=over_budget, say=say
    )
    line = Calibration.read(_folder(path), evaluator.updates)
    evaluated = dict(zip(named, evaluator.evaluate(named.values()), strict=True))
    expected = {
        name: None if line is None else SupernetAccuracy(evaluator, line).estimate(one)
        for name, one in evaluated.items()
    }
    if as_json:
        emit_json(
            {
                "schema": 1,
                "supernet": path,
                "updates": evaluator.updates,
                "calibration": None if line is None else dataclasses.asdict(line),
                "networks": [
                    {
                        "name": name,
                        "id": named[name].id,
                        "shared_top1_percent": one.top1_percent,
                        "shared_loss": one.loss,
                        "shared_loss_std": one.loss_std,
                        "estimate_percent": None if estimate is None else estimate.value,
                        "std_percent": None if estimate is None else estimate.std,
                        "images": one.images,
                        "seconds": one.seconds,
                    }
                    for (name, one), estimate in zip(evaluated.items(), expected.values(), strict=True)
                ],
            }
        )
        return
    after = f"after {evaluator.updates} updates of its own" if evaluator.updates else "with shared weights"
    for name, one in evaluated.items():
        estimate = expected[name]
        trained = (
            "" if estimate is None else f"; {estimate.value:.2f} ± {estimate.std:.2f} % expected when trained"
        )
        stdout().print(
            f"{name}: {one.top1_percent:.2f} ± {one.binomial_std_percent:.2f} % {after}, loss "
            f"{one.loss:.3f} ± {one.loss_std:.3f}, on {one.images} held-back images, in {one.seconds:.1f} s"
            f"{trained}",
            soft_wrap=True,
        )


@app.command()
def calibrate(
    path: PathArgument,
    trainings: Annotated[
        str,
        typer.Argument(
            metavar="TRAININGS",
            help="Folder with finished trainings, or its trainings.jsonl.",
        ),
    ],
    data: TuningDataOption = None,
    updates: UpdatesOption = None,
    accelerator: AcceleratorOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Fit the loss with shared weights to the accuracy of finished trainings.

    Afterwards, estimates of this supernet (with the same number of updates) are the accuracy in percent of
    the network when trained like those.
    """
    require_packages()
    from hwnas.supernet.calibration import Calibration, comparable
    from hwnas.train.trainings import read_trainings

    evaluator = _evaluator(path, accelerator, data, updates)
    known = comparable(read_trainings(Path(trainings)), evaluator)
    Calibration.require_enough(len(known.archs))
    evaluated = evaluator.evaluate(known.archs)
    line = Calibration.fitted(
        [one.loss for one in evaluated],
        known.top1_percent,
        loss_stds=[one.loss_std for one in evaluated],
    )
    written = line.write(_folder(path), evaluator.updates)
    if as_json:
        emit_json(
            {"schema": 1, "out": str(written), "condition": known.condition, **dataclasses.asdict(line)}
        )
        return
    stdout().print(
        f"trained ({known.condition}) = {line.intercept:.2f} % - {line.slope:.2f} x loss, "
        f"± {line.std_percent:.2f} %, from {line.trainings} networks; written to {written}",
        soft_wrap=True,
    )


def _evaluator(path: str, accelerator: str, data: str | None, updates: int | None) -> SubnetEvaluator:
    from hwnas.supernet.evaluator import SubnetEvaluator

    if updates is not None and data is None:
        raise UsageError("--updates needs the images that the supernet was trained on: add --data DATA")
    return SubnetEvaluator.load(path, device=training_device(accelerator), data=data, updates=updates)


def _before(folder: Path, resume: bool) -> tuple[Settings, SearchSpace | str, int | None]:
    """(settings, space, limit) of what is resumed; the defaults where nothing is."""
    from hwnas.supernet.checkpoint import load
    from hwnas.supernet.settings import Settings
    from hwnas.train.checkpoint import LAST, PREVIOUS

    if not resume or not any((folder / file).exists() for file in (LAST, PREVIOUS)):
        return Settings(), "default", None
    saved = load(folder)
    return saved.recipe, saved.space, saved.data.get("limit")


def _changed(settings: Settings, changes: dict[str, Any], fields: list[str]) -> Settings:
    """With the command line's changes; warm-up is a quarter of the epochs at most."""
    given = {name: value for name, value in changes.items() if value is not None}
    if "epochs" in given:
        given["warmup_epochs"] = min(settings.warmup_epochs, max(0, given["epochs"]) / 4)
    return with_fields(dataclasses.replace(settings, **given), fields)


def _space(asked: SearchSpace | str, image_size: int | None, stem_stride: int | None) -> SearchSpace:
    """The space with one image size and one stem, where they are given."""
    from hwnas.space import SearchSpace as Space

    space = Space.from_yaml(asked) if isinstance(asked, str) else asked
    adapted = space.adapted(resolution=image_size, stem_stride=stem_stride)
    return dataclasses.replace(adapted, name=space.name)  # by which a supernet finds its space again


def _folder(path: str) -> Path:
    return Path(path) if Path(path).is_dir() else Path(path).parent
