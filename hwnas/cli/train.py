"""`hwnas train`: a network and a folder of images -> a checkpoint, resumable at any time."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import ArchArgument, JsonOption, OverBudgetOption, emit_json, write_out
from hwnas.cli.training import (
    AcceleratorOption,
    BatchOption,
    Changes,
    EpochsOption,
    ImageSizeOption,
    InitOption,
    LimitOption,
    LogToOption,
    LrOption,
    OutOption,
    ResumeOption,
    SeedOption,
    SetOption,
    StemStrideOption,
    Terminal,
    WorkersOption,
    chosen_recipe,
    how_to_continue,
    is_resumed,
    logging_to,
    report_training,
    require_packages,
    resume_command,
    training_device,
    training_folder,
)
from hwnas.errors import HwnasError

if TYPE_CHECKING:
    from hwnas.train.recipe import Recipe

__all__ = ["DataOption", "command"]

DEFAULT_RECIPE = "imagenet"

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Images: a folder or tar with DATA/train/CLASS/*.jpg and DATA/val/CLASS/*.jpg (or test); a "
        "folder with DATA/CLASS/*.jpg, of which a fifth is held out; "
        "shards (DATA/train-*.tar, DATA/val-*.tar); or a data set by name: cifar10:PATH, "
        "cifar100:PATH, flowers102:PATH, oxford-pet:PATH, imagenet:PATH.",
    ),
]


def command(
    context: typer.Context,
    arch: ArchArgument,
    data: DataOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help=f"Training recipe, e.g. small, or a YAML file; {DEFAULT_RECIPE} by default. A recipe may "
            "change the network: small trains at 64 px with stem stride 4, small-finetune at 96 px with stem "
            "stride 4.",
        ),
    ] = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    init: InitOption = None,
    settings: SetOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: LrOption = None,
    image_size: ImageSizeOption = None,
    stem_stride: StemStrideOption = None,
    limit: LimitOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    accelerator: AcceleratorOption = "auto",
    log_to: LogToOption = None,
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Train a network on your images.

    The network is adapted to the number of classes, the image size and the stem stride. The result is
    another network with its own name and id. For a network of a run, its latency is predicted again;
    training stops when it exceeds the run's budget, unless --over-budget is ok. A checkpoint is written
    after each epoch; --resume repeats one epoch at most. A finished training adds a line to
    trainings.jsonl, which --accuracy learned uses, and writes report.html: loss and accuracy by epoch,
    confusion matrix, sample predictions.
    """
    require_packages()
    from hwnas.named import promise_of_weights, resolve_promised, start_of
    from hwnas.predictors.latency.budget_check import hold_budgets

    name, spec, promise = resolve_promised(arch)
    from hwnas.data.sources import open_images
    from hwnas.space.changes import renamed, size_words
    from hwnas.train.training import train
    from hwnas.train.trainings import TABLE, remember, row_of

    folder = training_folder(context, out, Path(arch).stem if Path(arch).exists() else name, resume=resume)
    promise = promise or promise_of_weights(init)
    changes = Changes(
        epochs=epochs,
        batch=batch,
        lr=lr,
        image_size=image_size,
        stem_stride=stem_stride,
        seed=seed,
        workers=workers,
        settings=settings,
    )
    chosen, saved_limit = _chosen_recipe(recipe, folder if resume else None)
    limit = saved_limit if limit is None else limit
    on = training_device(accelerator)
    images = open_images(Path(data))
    options: dict[str, Any] = {
        **changes.options(),
        "recipe": recipe,
        "init": init,
        "limit": limit,
        "accelerator": accelerator if accelerator != "auto" else None,
        "log_to": log_to,
    }
    again = resume_command("train", arch, data, folder, options)
    callback = Terminal()
    is_first = int(os.environ.get("RANK", "0")) == 0
    changed = changes.of(chosen)
    trained = changed.adapted(spec, classes=len(images.classes()))
    called = renamed(name, spec, trained)
    if is_first and size_words(trained) != size_words(spec):
        by = "" if recipe is None else f"recipe {recipe}: "
        callback.note(f"{by}trains at {size_words(trained)}; {name} is for {size_words(spec)}")
    targets = hold_budgets(
        {called: (trained, promise)},
        over_budget="ok" if is_resumed(folder, resume) else over_budget,
        say=callback.note if is_first else lambda line: None,
    )
    if is_first:
        callback.note(f"training {called} (id {trained.id}) on {on} into {folder}")
    with how_to_continue(callback, again), logging_to(callback, log_to, folder, changed) as heard:
        result = train(
            spec,
            images,
            changed,
            folder,
            name=name,
            promise=promise,
            resume=resume,
            init=start_of(init),
            limit=limit,
            device=on,
            callback=heard,
        )
    if not is_first:  # of several processes, the first one speaks
        return
    try:
        remember(row_of(result.document, init=init or ""), folder.parent / TABLE)
    except HwnasError as error:  # the training is whole without
        callback.note(str(error))
    report_training(folder, callback, images, device=on)
    last, best = result.history[-1], result.best
    if as_json:
        targets_ms = [target.to_dict() for target in targets]
        emit_json({**result.document, "targets": targets_ms, "out": str(folder)})
    else:
        write_out(
            f"{called} (id {result.arch.id}): "
            f"top-1 {last.top1_percent:.2f} %, top-5 {last.top5_percent:.2f} % "
            f"after epoch {last.epoch}; "
            f"best top-1 {best.top1_percent:.2f} % after epoch {best.epoch}\n"
        )
    checkpoint = shlex.quote(str(folder))
    callback.note(f"next: hwnas evaluate {checkpoint} --data {shlex.quote(data)}")
    callback.note(f"      hwnas export {checkpoint} --evaluate {shlex.quote(data)}")


def _chosen_recipe(asked: str | None, resumed: Path | None) -> tuple[Recipe, int | None]:
    """The recipe asked for, else that of the training that is resumed; and that training's limit."""
    from hwnas.train import checkpoint
    from hwnas.train.recipe import read_recipe

    return chosen_recipe(asked, resumed, DEFAULT_RECIPE, checkpoint.resume_point, read_recipe)
