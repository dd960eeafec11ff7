"""`hwnas dense`: an architecture as the backbone of a detector or a segmentation network."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas import plugins
from hwnas.cli.common import ArchArgument, JsonOption, OverBudgetOption, emit_json, write_err, write_out
from hwnas.cli.training import (
    AcceleratorOption,
    BatchOption,
    Changes,
    EpochsOption,
    ImageSizeOption,
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

if TYPE_CHECKING:
    from hwnas.dense.recipe import DenseRecipe

__all__ = ["app"]

DEFAULT_RECIPE = "coco"

app = typer.Typer(no_args_is_help=True, help="Detection, instance and semantic segmentation.")

CocoOption = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Images in COCO format: DATA/train/annotations.json and DATA/train/images/, the same for "
        "val (or test); or DATA/annotations.json and DATA/images/; or COCO's own folders.",
    ),
]


@app.command()
def train(
    context: typer.Context,
    arch: ArchArgument,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="detect|instance|segment",
            help="Task: detect (RetinaNet), instance (Mask R-CNN) or segment (a class per pixel).",
        ),
    ],
    data: CocoOption,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="RECIPE",
            help="Training recipe: coco (default), small, or a YAML file.",
        ),
    ] = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="WEIGHTS",
            help="Initial weights: as in hwnas train for the backbone, or a dense training.",
        ),
    ] = None,
    settings: SetOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: LrOption = None,
    image_size: ImageSizeOption = None,
    stem_stride: StemStrideOption = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Number of training images, drawn by the seed."),
    ] = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    accelerator: AcceleratorOption = "auto",
    log_to: LogToOption = None,
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Train a detector or a segmentation network with ARCH as its backbone.

    For a network of a run, the latency of the backbone is predicted again at this image size, without the
    task's head; training stops when it exceeds the run's budget, unless --over-budget is ok. A checkpoint
    is written after each epoch; --resume repeats one epoch at most.
    """
    _require_packages()
    from hwnas.named import promise_of_weights, resolve_promised, start_of
    from hwnas.predictors.latency.budget_check import hold_budgets

    name, spec, promise = resolve_promised(arch)
    from hwnas.dense import trainer as loop
    from hwnas.space.changes import renamed

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
    options: dict[str, Any] = {
        "task": task,
        **changes.options(),
        "recipe": recipe,
        "init": init,
        "limit": limit,
        "accelerator": accelerator if accelerator != "auto" else None,
        "log_to": log_to,
    }
    again = resume_command("dense train", arch, data, folder, options)
    callback = Terminal()
    on = training_device(accelerator)
    is_first = int(os.environ.get("RANK", "0")) == 0
    changed = changes.of(chosen, longest_side=_longest(chosen, image_size))
    trained = changed.adapted(spec)
    called = renamed(name, spec, trained)
    targets = hold_budgets(
        {called: (trained, promise)},
        over_budget="ok" if is_resumed(folder, resume) else over_budget,
        say=callback.note if is_first else lambda line: None,
        part="the backbone, of a square image and without the head of the task, ",
    )
    if is_first:
        callback.note(f"training {called} (id {trained.id}) to {task} on {on} into {folder}")
    with how_to_continue(callback, again), logging_to(callback, log_to, folder, changed) as heard:
        result = loop.train(
            spec,
            task,
            Path(data),
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
    report_training(folder, callback)
    last, best = result.history[-1], result.best
    if as_json:
        targets_ms = [target.to_dict() for target in targets]
        emit_json({**result.document, "targets": targets_ms, "out": str(folder)})
    else:
        write_out(
            f"{called}: {last.outcome} after epoch {last.epoch}; "
            f"best {best.outcome} after epoch {best.epoch}\n"
        )
    folder_word, data_word = shlex.quote(str(folder)), shlex.quote(data)
    callback.note(f"next: hwnas dense evaluate {folder_word} --data {data_word}")


@app.command()
def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CKPT", help="Folder of a dense training (its best network), or a file of it."
        ),
    ],
    data: CocoOption,
    accelerator: AcceleratorOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure average precision or mean IoU on the val images, or test."""
    _require_packages()
    from hwnas.dense import checkpoint as checkpoints
    from hwnas.dense import trainer as loop

    trained = checkpoints.load(checkpoint)
    for reason in trained.skipped:
        write_err(f"{reason}; taking another checkpoint of that training\n")
    found = loop.evaluate_checkpoint(trained, Path(data), device=training_device(accelerator))
    for name, reason in found.unreadable:
        write_err(f"left out: {name}: {reason}\n")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "checkpoint": str(trained.path),
                "name": trained.name,
                "id": trained.arch.id,
                "task": trained.task,
                "epoch": trained.epoch,
                "scores_percent": dict(found.scores),
                "images": found.images,
                "unreadable": [name for name, _ in found.unreadable],
                "seconds": found.seconds,
            }
        )
    else:
        said = ", ".join(f"{name.replace('_', ' ')} {value:.2f} %" for name, value in found.scores.items())
        write_out(
            f"{trained.name}, {trained.task}, epoch {trained.epoch}: {said} on {found.images} images "
            f"in {found.seconds:.1f} s ({found.images / found.seconds:.1f} images/s)\n"
        )


def _require_packages() -> None:
    require_packages()
    plugins.require("pycocotools", extra="dense")


def _longest(recipe: DenseRecipe, image_size: int | None) -> int | None:
    """The longest side that goes with another image size, in the recipe's proportion."""
    return None if image_size is None else round(image_size * recipe.longest_side / recipe.image_size)


def _chosen_recipe(asked: str | None, resumed: Path | None) -> tuple[DenseRecipe, int | None]:
    """The recipe asked for, else that of the training that is resumed; and that training's limit."""
    from hwnas.dense.checkpoint import resume_point
    from hwnas.dense.recipe import read_recipe

    return chosen_recipe(asked, resumed, DEFAULT_RECIPE, resume_point, read_recipe)
