"""`hwnas export`: a network as files for a runtime, checked against torch, with a model card beside them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas import plugins
from hwnas.cli.common import JsonOption, OverBudgetOption, emit_json, say
from hwnas.cli.export_dense import export_dense
from hwnas.cli.typed import as_typed
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint
    from hwnas.export.accuracy_check import Comparison
    from hwnas.export.deploy import Deployable
    from hwnas.export.metadata import FileMetadata
    from hwnas.export.onnx_graph import Batch
    from hwnas.targets import Promise
    from hwnas.train.checkpoint import Checkpoint

__all__ = ["command"]


def command(
    arch: Annotated[
        str,
        typer.Argument(
            metavar="ARCH|CKPT",
            help="Checkpoint with trained weights; or a preset, an architecture file (YAML) or RUN#2 with "
            "random weights, which is enough for timing.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="File to write. Default: the name of CKPT with the format's ending.",
        ),
    ] = None,
    model_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="File format: onnx, openvino, ncnn, litert (.tflite) or exported-program (torch).",
        ),
    ] = "onnx",
    batch: Annotated[str, typer.Option("--batch", metavar="N|dynamic", help="Batch size, or dynamic.")] = "1",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="fp32|int8",
            help="Numeric precision: fp32 or int8 (ONNX, needs --calibration).",
        ),
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", metavar="DATA", help="Calibration images for int8; 128 of them are used."
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option("--evaluate", metavar="DATA", help="Labelled images for the accuracy before and after."),
    ] = None,
    preprocess: Annotated[
        str,
        typer.Option(
            "--preprocess",
            metavar="outside|inside",
            help="Where pixels are normalised. inside: the file takes RGB pixels, uint8 (N, side, side, "
            "3), and returns probabilities.",
        ),
    ] = "outside",
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size",
            metavar="WxH",
            help="Input size of a detector or segmentation network, e.g. 640x480. Default: a square.",
        ),
    ] = None,
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="ONNX operator set; older runtimes need a lower one.")
    ] = 17,
    over_budget: OverBudgetOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Export a network as ONNX, OpenVINO, ncnn, LiteRT or a torch program, with a model card.

    The file has the weights inside and BatchNorm folded. It is written only when the runtime's logits equal
    torch's. Its metadata hold preprocessing, class names and architecture. Input `images` (N, 3, side,
    side), output `logits` (N, classes). A network that was changed since its run and exceeds the run's
    budget is not written, unless --over-budget is ok.
    """
    images = _batch(batch)
    for package in ("torch", "onnx", "onnxruntime"):
        plugins.require(package, extra="torch")
    from hwnas.export.classifier import ExportSettings, check_out, export_classifier, file_ending
    from hwnas.named import dense_checkpoint, folder_of, named_network, resolve_promised
    from hwnas.predictors.latency.budget_check import hold_budgets
    from hwnas.predictors.latency.measurements import recorded

    settings = ExportSettings(
        model_format=model_format,
        batch=images,
        precision=precision,
        preprocess=preprocess,
        opset=opset,
        calibration=calibration,
        evaluate=evaluate,
    )
    ending = file_ending(model_format, precision)
    if out is not None:
        check_out(out, model_format)
    if (dense := dense_checkpoint(arch, say=say)) is not None:
        out = out or Path(_stem(arch, "", dense) + ending)
        check_out(out, model_format)
        export_dense(
            dense,
            out=out,
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
    name, network, trained = named_network(arch, say=say)
    promise = resolve_promised(arch)[2] if trained is None else trained.promise
    budgets: list[str] = []
    targets = hold_budgets({name: (network.arch, promise)}, over_budget=over_budget, say=budgets.append)
    budgets += _other_configuration(promise, model_format, precision)
    out = out or Path(_stem(arch, name, trained) + ending)
    check_out(out, model_format)
    folder = folder_of(arch)
    exported = export_classifier(
        name,
        network,
        out,
        settings,
        trained=trained,
        promise=promise,
        targets=targets,
        measured=() if folder is None else recorded(folder, network.arch.id),
    )
    document, cards, model = exported.card, exported.cards, exported.model
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
        f"size    {model.size_bytes / 2**20:.2f} MiB in {', '.join(file.name for file in exported.files)}\n"
        f"{_tensors(exported.metadata)}"
        f"{_judged(model, exported.comparison)}"
        f"{''.join(f'budget  {line}{chr(10)}' for line in budgets)}"
        f"card    {cards[0]}\n"
        f"Next: {as_typed(next_command)}\n"
    )
    if trained is None:
        sys.stderr.write(
            "The weights are random: good for timing, not for use. Export a checkpoint for use.\n"
        )


def _other_configuration(promise: Promise | None, model_format: str, precision: str) -> list[str]:
    """That the network was found for another runtime or precision than the file's, and how to export that."""
    from hwnas.errors import HwnasError
    from hwnas.export.formats import FORMATS
    from hwnas.predictors.latency import LatencyTable

    lines = []
    for target in () if promise is None else promise.targets:
        try:
            profile = LatencyTable.load(target.device).profile
        except HwnasError:
            continue  # the budget's own line says so
        fitting = [one for one in FORMATS.values() if one.runtime == profile.runtime]
        if not fitting or profile.precision not in fitting[0].precisions or profile.inferred:
            continue
        found = fitting[0]
        if (found.runtime, profile.precision) != (FORMATS[model_format].runtime, precision):
            calibration = " --calibration DATA" if profile.precision == "int8" else ""
            lines.append(
                f"{target.device} is {profile.runtime}, {profile.precision}, and this file is not: for the "
                f"latency of its run export with --format {found.name} --precision {profile.precision}"
                f"{calibration}"
            )
    return lines


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
        lines += "top-1   unknown: --evaluate DATA measures the loss by int8\n"
    return lines


def _stem(text: str, name: str, trained: Checkpoint | DenseCheckpoint | None) -> str:
    """What a file is called by default: as the training's folder, of which one network may have several."""
    if trained is None:
        return name.replace("#", "-")
    path = Path(text).resolve()
    return path.name if path.is_dir() else path.stem


def _batch(text: str) -> Batch:
    if text == "dynamic":
        return "dynamic"
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--batch must be a whole number from 1, or 'dynamic', got '{text}'")
