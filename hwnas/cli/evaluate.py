"""`hwnas evaluate`: how accurate a trained network is on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.common import JsonOption, emit_json, write_err, write_out
from hwnas.cli.train import DataOption
from hwnas.cli.training import AcceleratorOption, require_packages, training_device

__all__ = ["command"]


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CKPT", help="Training folder (its best network) or a .safetensors file."),
    ],
    data: DataOption,
    accelerator: AcceleratorOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure the top-1 and top-5 accuracy of a trained network on the val images, or test."""
    require_packages()
    from hwnas.data.sources import open_images
    from hwnas.train.checkpoint import load
    from hwnas.train.evaluation import evaluate_checkpoint

    trained = load(checkpoint)
    for reason in trained.skipped:
        write_err(f"{reason}; taking another checkpoint of that training\n")
    images = open_images(Path(data))
    found = evaluate_checkpoint(trained, images, device=training_device(accelerator))
    for name, reason in found.unreadable:
        write_err(f"left out: {name}: {reason}\n")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "checkpoint": str(trained.path),
                "name": trained.name,
                "id": trained.arch.id,
                "epoch": trained.epoch,
                "split": images.evaluation_split(),
                "top1_percent": found.top1_percent,
                "top5_percent": found.top5_percent,
                "images": found.images,
                "unreadable": [name for name, _ in found.unreadable],
                "seconds": found.seconds,
            }
        )
    else:
        write_out(
            f"{trained.name}, epoch {trained.epoch}: top-1 {found.top1_percent:.2f} %, "
            f"top-5 {found.top5_percent:.2f} % on {found.images} images of '{images.evaluation_split()}' "
            f"in {found.seconds:.1f} s ({found.images / found.seconds:.0f} images/s)\n"
        )
