"""`hwnas train-many`: train several networks, stop weak ones early."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import JsonOption, OverBudgetOption, emit_json, say, stdout
from hwnas.cli.train import DEFAULT_RECIPE, DataOption
from hwnas.cli.training import (
    BatchOption,
    Changes,
    EpochsOption,
    ImageSizeOption,
    InitOption,
    LimitOption,
    LrOption,
    OutOption,
    SeedOption,
    SetOption,
    StemStrideOption,
    Terminal,
    file_name,
    report_training,
    require_packages,
    training_folder,
)
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.tune import Outcome

__all__ = ["command"]


def command(
    context: typer.Context,
    archs: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH...",
            help="Networks: presets, YAML files, RUN#2, a run's folder for its whole front, or 'presets' "
            "for all published networks.",
        ),
    ],
    data: DataOption,
    recipe: Annotated[
        str,
        typer.Option("--recipe", metavar="RECIPE", help="Training recipe, e.g. small, or a YAML file."),
    ] = DEFAULT_RECIPE,
    out: OutOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the trainings in --out with the same options.")
    ] = False,
    first_epochs: Annotated[
        int,
        typer.Option("--first-epochs", metavar="N", help="Number of epochs before any training is stopped."),
    ] = 1,
    keep_one_in: Annotated[
        int,
        typer.Option(
            "--keep-one-in",
            metavar="K",
            help="Keep one in K networks of each size after --first-epochs, K times as many, and so on.",
        ),
    ] = 2,
    workers: Annotated[
        int,
        typer.Option("--workers", metavar="N", min=1, help="Number of parallel trainings."),
    ] = 1,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="Ray cluster: auto or HOST:PORT. Default: start Ray on this machine.",
        ),
    ] = None,
    gpus: Annotated[float, typer.Option("--gpus", metavar="N", min=0.0, help="GPUs per training.")] = 0.0,
    init: InitOption = None,
    settings: SetOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: LrOption = None,
    image_size: ImageSizeOption = None,
    stem_stride: StemStrideOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Train several networks in parallel with Ray Tune and stop weak ones early.

    Each training has its own folder below --out, as from 'hwnas train'. Networks compete with networks of
    their size. Latency is predicted again; nothing is trained when a network exceeds its run's budget,
    unless --over-budget is ok. A worker that dies is replaced and continues after its last finished epoch.
    """
    require_packages()
    from hwnas.data.sources import open_images
    from hwnas.named import start_of, subjects
    from hwnas.predictors.latency.budget_check import hold_budgets
    from hwnas.space.changes import renamed
    from hwnas.train.recipe import read_recipe
    from hwnas.train.trainings import TABLE, remember, row_of
    from hwnas.tune import TuneConfig, train_many

    if resume and out is None:
        raise UsageError("--resume needs --out, the folder of the trainings to continue")
    changes = Changes(
        epochs=epochs,
        batch=batch,
        lr=lr,
        image_size=image_size,
        stem_stride=stem_stride,
        seed=seed,
        settings=settings,
    )
    images = open_images(Path(data))
    classes = images.classes()  # a mistake in the data shows here, not in every worker
    named = subjects(archs)
    networks = {file_name(name): subject.arch for name, subject in named.items()}
    if len(networks) < len(named):
        raise UsageError(
            f"each network needs a folder of its own name, got {', '.join(named)}: rename a file or a run"
        )
    config = TuneConfig(
        networks=networks,
        data=data,
        recipe=changes.of(read_recipe(recipe)),
        out=training_folder(context, out, "train-many", resume=False),
        limit=limit,
        init=start_of(init),
        first_epochs=first_epochs,
        keep_one_in=keep_one_in,
        classes=len(classes),
        promises={file_name(name): one.promise for name, one in named.items() if one.promise is not None},
    )
    hold_budgets(
        {
            renamed(name, one.arch, config.arch(file_name(name))): (config.arch(file_name(name)), one.promise)
            for name, one in named.items()
        },
        over_budget="ok" if resume else over_budget,
        say=say,
    )
    say(f"training {len(config.networks)} networks, {workers} at once, into {config.out}")
    try:
        outcomes = train_many(config, resume=resume, workers=workers, address=address, gpus=gpus, say=say)
    except KeyboardInterrupt:
        say("interrupted; the last finished epochs are kept. To continue: the same command with")
        say(f"  --out {shlex.quote(str(config.out))} --resume")
        raise
    for outcome in outcomes:
        if outcome.state == "finished":
            from hwnas.io import json as json_io

            document = json_io.read(outcome.folder / "result.json")
            remember(row_of(document, init=init or ""), config.out / TABLE)
            report_training(outcome.folder, Terminal(), images)
    if as_json:
        emit_json({"schema": 1, "out": str(config.out), "networks": [_plain(one) for one in outcomes]})
        return
    _show(outcomes)
    if outcomes[0].state == "finished":
        say(f"next: hwnas export {shlex.quote(str(outcomes[0].folder))} --evaluate {shlex.quote(data)}")


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "id": outcome.arch.id,
        "state": outcome.state,
        "epochs": outcome.epochs,
        "top1_percent": outcome.top1_percent,
        "folder": str(outcome.folder),
        "error": outcome.error,
    }


def _show(outcomes: Sequence[Outcome]) -> None:
    from rich.table import Table

    from hwnas.space import count_macs, lower

    table = Table()
    for heading in ("network", "M MACs", "epochs", "top-1 %", ""):
        table.add_column(heading, justify="left" if heading in ("network", "") else "right")
    for one in outcomes:
        table.add_row(
            one.name,
            f"{count_macs(lower(one.arch)) / 1e6:.1f}",
            str(one.epochs),
            "" if one.top1_percent is None else f"{one.top1_percent:.2f}",
            f"failed: {one.error}" if one.error else one.state,
        )
    stdout().print(table)
