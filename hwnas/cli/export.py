"""`hwnas export`: a network as files for a runtime, checked against torch, with a model card beside them."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas import plugins
from hwnas.cli.budget import OverBudgetOption, hold_budgets, resolve_promised
from hwnas.cli.common import JsonOption, emit_json
from hwnas.cli.export_dense import export_dense
from hwnas.cli.subjects import folder_of
from hwnas.cli.weights import dense_checkpoint, named_network
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint
    from hwnas.export.accuracy_check import Comparison
    from hwnas.export.deploy import Deployable
    from hwnas.export.metadata import FileMetadata
    from hwnas.export.onnx_graph import Batch
    from hwnas.nn.network import Network
    from hwnas.predictors.latency.measurements import Measurement
    from hwnas.train.checkpoint import Checkpoint

__all__ = ["command"]


def command(
    arch: Annotated[
        str,
        typer.Argument(
            metavar="ARCH|CKPT",
            help="A checkpoint, for its trained weights; or a preset, an architecture file (YAML) or RUN#2, "
            "with random weights, which is enough for timing.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The file to write, replaced if there; CKPT's name and the format's ending by default.",
        ),
    ] = None,
    model_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="File format: onnx, openvino, ncnn or exported-program (torch).",
        ),
    ] = "onnx",
    batch: Annotated[
        str, typer.Option("--batch", metavar="N|dynamic", help="Images at once, or any number of them.")
    ] = "1",
    precision: Annotated[
        str,
        typer.Option("--precision", metavar="fp32|int8", help="int8 is ONNX, and asks for --calibration."),
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="DATA", help="Images that show how large activations get, 128 of them."
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option("--evaluate", metavar="DATA", help="Labelled images: the accuracy before and after."),
    ] = None,
    preprocess: Annotated[
        str,
        typer.Option(
            "--preprocess",
            metavar="outside|inside",
            help="inside: the file takes RGB pixels, uint8 (N, side, side, 3), and gives probabilities.",
        ),
    ] = "outside",
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size",
            metavar="WxH",
            help="Input of a detector or segmentation network, e.g. 640x480; a square by default.",
        ),
    ] = None,
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="ONNX operator set; older runtimes need a lower one.")
    ] = 17,
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Write a network as ONNX, OpenVINO, ncnn or a torch program, and a model card beside it.

    The weights are inside, BatchNorm is folded, and the format's runtime must give torch's logits:
    otherwise no file is written. The file's own metadata say how photos are prepared and what the classes
    are called. Input `images` (N, 3, side, side), output `logits` (N, classes). A network of a run is
    predicted for the run's devices; one that was changed since and exceeds the run's budget is not written
    unless --over-budget is ok.
    """
    images = _batch(batch)
    _check_precision(precision, calibration)
    _check_preprocess(preprocess, model_format)
    if out is not None:
        _check_folder(out)
    for package in ("torch", "onnx", "onnxruntime"):
        plugins.require(package, extra="torch")
    if (dense := dense_checkpoint(arch)) is not None:
        export_dense(
            dense,
            out=_path(out, model_format, precision, _stem(arch, "", dense)),
            model_format=model_format,
            batch=batch,
            preprocess=preprocess,
            input_size=input_size,
            calibration=calibration,
            evaluate=evaluate,
            opset=opset,
            as_json=as_json,
        )
        return
    if input_size is not None:
        raise UsageError("--input-size is for detectors and segmentation networks, got a classifier")
    from hwnas.export import deploy, model_card
    from hwnas.export import metadata as file_metadata
    from hwnas.export.inside import pixels_inside

    name, network, trained = named_network(arch)
    if trained is None and (calibration or evaluate):
        raise UsageError(
            "--calibration and --evaluate need trained weights, got an architecture: give a checkpoint"
        )
    promise = resolve_promised(arch)[2] if trained is None else trained.promise
    budgets: list[str] = []
    targets = hold_budgets({name: (network.arch, promise)}, over_budget=over_budget, say=budgets.append)
    out = _path(out, model_format, precision, _stem(arch, name, trained))
    inside = preprocess == "inside"
    model = deploy.prepare(
        network,
        model_format="onnx" if inside else model_format,
        batch=images,
        opset=opset,
        calibration=_calibration(trained, calibration, images),
    )
    metadata = file_metadata.of_classifier(
        name,
        network.arch,
        model_format=model_format,
        precision=precision,
        batch=images,
        preprocess=preprocess,
        trained=trained,
        predicted=model_card.predicted_latency(network.arch),
        targets=[target.to_dict() for target in targets],
    )
    if inside:
        model = pixels_inside(model, network, metadata.preprocessing, model_format=model_format, batch=images)
    model = dataclasses.replace(model, files=file_metadata.attach(metadata, model.files))
    comparison = _comparison(trained, network, model, evaluate)
    files = deploy.write(model, out)
    document = model_card.card(
        name,
        network.arch,
        model,
        files,
        metadata=metadata,
        trained=trained,
        comparison=comparison,
        calibration=None if calibration is None else calibration.name,
        measured=_measured(arch, network),
        promise=promise,
        targets=targets,
    )
    cards = model_card.write_card(document, out)
    next_command = f"hwnas measure {shlex.quote(str(out))}"
    if as_json:
        emit_json(
            document
            | {
                "file": str(out),
                "cards": [str(card) for card in cards],
                "batch": images,
                "opset": opset,
                "parity_max_abs": model.parity_max_abs,
                "parity_tolerance": model.parity_tolerance,
                "next_command": next_command,
            }
        )
        return
    sys.stdout.write(
        f"{out}: {name} (id {network.arch.id}), {document['weights']} weights, {model_format}, {precision}\n"
        f"size    {model.size_bytes / 2**20:.2f} MiB in {', '.join(file.name for file in files)}\n"
        f"{_tensors(metadata)}"
        f"{_judged(model, comparison)}"
        f"{''.join(f'budget  {line}{chr(10)}' for line in budgets)}"
        f"card    {cards[0]}\n"
        f"Next: {next_command}\n"
    )
    if trained is None:
        sys.stderr.write(
            "The weights are random: good for timing, not for use. Export a checkpoint for use.\n"
        )


def _tensors(metadata: FileMetadata) -> str:
    """What goes in and comes out, a line each."""
    named = [("input", metadata.input), *(("output", output) for output in metadata.outputs)]
    return "".join(
        f"{kind:<8}{tensor.name} ({', '.join(map(str, tensor.shape))})"
        f"{'' if tensor.dtype == 'float32' else f' {tensor.dtype}'}\n"
        for kind, tensor in named
    )


def _judged(model: Deployable, comparison: Comparison | None) -> str:
    """How near the file is to the network: by its logits, and by its accuracy where that was asked for."""
    from hwnas.export.formats import FORMATS

    lines = ""
    if model.parity_max_abs is not None:
        lines = (
            f"parity  {FORMATS[model.model_format].title} within {model.parity_max_abs:.1e} of torch "
            f"({model.parity_tolerance:.1e} allowed)\n"
        )
    if comparison is not None:
        lost = comparison.top1_before_percent - comparison.top1_after_percent
        lines += (
            f"top-1   {comparison.top1_after_percent:.2f} % on {comparison.images} images of "
            f"'{comparison.split}', {comparison.top1_before_percent:.2f} % before: {lost:.2f} points lost; "
            f"the same class for {comparison.agreement_percent:.2f} %\n"
        )
    elif model.precision == "int8":
        lines += "top-1   unknown: --evaluate DATA tells what int8 costs\n"
    return lines


def _path(out: Path | None, model_format: str, precision: str, stem: str) -> Path:
    """The file to write, checked; `stem` and the format's ending where the user gives none."""
    from hwnas.export import deploy
    from hwnas.export.formats import FORMATS

    if model_format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got '{model_format}'")
    ending = (".int8" if precision == "int8" else "") + FORMATS[model_format].ending
    out = out or Path(stem + ending)
    _check_folder(out)
    deploy.check_path(out, model_format)
    return out


def _stem(text: str, name: str, trained: Checkpoint | DenseCheckpoint | None) -> str:
    """What a file is called by default: as the training's folder, of which one network may have several."""
    if trained is None:
        return name.replace("#", "-")
    path = Path(text).resolve()
    return path.name if path.is_dir() else path.stem


def _measured(text: str, network: Network) -> tuple[Measurement, ...]:
    """What the run's or training's folder knows of this network's latency."""
    from hwnas.predictors.latency.measurements import recorded

    folder = folder_of(text)
    return () if folder is None else recorded(folder, network.arch.id)


def _calibration(trained: Checkpoint | None, folder: Path | None, batch: Batch) -> list[Any] | None:
    if trained is None or folder is None:
        return None
    from hwnas.export.accuracy_check import calibration_batches

    return list(calibration_batches(trained, folder, batch=1 if batch == "dynamic" else batch))


def _comparison(
    trained: Checkpoint | None, network: Network, model: Deployable, folder: Path | None
) -> Comparison | None:
    if trained is None or folder is None:
        return None
    from hwnas.export.accuracy_check import compare

    return compare(trained, network, model.run, folder)


def _check_precision(precision: str, calibration: Path | None) -> None:
    if precision not in ("fp32", "int8"):
        raise UsageError(f"--precision must be fp32 or int8, got '{precision}'")
    if (precision == "int8") != (calibration is not None):
        raise UsageError(
            f"--precision int8 and --calibration DATA go together, got {precision} "
            f"{'without' if calibration is None else 'with'} --calibration"
        )


def _check_preprocess(preprocess: str, model_format: str) -> None:
    if preprocess not in ("outside", "inside"):
        raise UsageError(f"--preprocess must be outside or inside, got '{preprocess}'")
    if preprocess == "inside":
        plugins.require("torch", extra="torch")
        from hwnas.export.inside import check_inside

        check_inside(model_format)


def _batch(text: str) -> Batch:
    if text == "dynamic":
        return "dynamic"
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--batch must be a whole number from 1, or 'dynamic', got '{text}'")


def _check_folder(out: Path) -> None:
    """What would keep the file from being written, found before the work."""
    if out.is_dir():
        raise UsageError(f"--out must be a file, got the folder {out}: try --out {out / 'model.onnx'}")
    if not out.parent.is_dir():
        raise UsageError(f"--out: no folder {out.parent}: create it with mkdir -p {out.parent}")
