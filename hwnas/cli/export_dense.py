"""What `hwnas export` does with a detector or a segmentation network."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import plugins
from hwnas.cli.common import emit_json
from hwnas.cli.typed import as_typed
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint
    from hwnas.export.dense import DenseComparison, DenseDeployable

__all__ = ["export_dense"]

_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def export_dense(
    trained: DenseCheckpoint,
    *,
    out: Path,
    model_format: str,
    batch: str,
    preprocess: str,
    input_size: str | None,
    calibration: Path | None,
    evaluate: Path | None,
    opset: int,
    as_json: bool,
) -> None:
    """Writes the files of the network and its card; raises UsageError for options it does not have."""
    if batch != "1":
        raise UsageError(f"a detector or segmentation network is exported for one image, got --batch {batch}")
    if preprocess != "outside":
        raise UsageError("--preprocess inside is for classifiers, got a detector or segmentation network")
    plugins.require("torchvision", extra="torch")
    from hwnas.export import dense, deploy, model_card
    from hwnas.export.dense_card import dense_card
    from hwnas.export.dense_cost import cost_of, predicted_latency
    from hwnas.export.metadata import attach

    size = dense.input_size(trained, input_size)
    made = dense.prepare(
        trained,
        size=size,
        model_format=model_format,
        opset=opset,
        calibration=None if calibration is None else dense.calibration_batches(trained, size, calibration),
    )
    cost = cost_of(trained, size)
    runtime = _RUNTIMES[model_format]
    predicted = predicted_latency(trained, cost, runtime=runtime, precision=made.model.precision)
    metadata = dense.metadata_of(trained, made, predicted=[row.to_dict() for row in predicted])
    comparison = None if evaluate is None else dense.compare(trained, made, evaluate)
    model = dataclasses.replace(made.model, files=attach(metadata, made.model.files))
    files = deploy.write(model, out)
    made = dataclasses.replace(made, model=model)
    document = dense_card(
        trained,
        made,
        files,
        metadata=metadata,
        cost=cost,
        comparison=comparison,
        calibration=None if calibration is None else calibration.name,
    )
    cards = model_card.write_card(document, out)
    next_command = f"hwnas predict {shlex.quote(str(out))} PHOTO"
    if as_json:
        extra = {"file": str(out), "cards": [str(card) for card in cards], "next_command": next_command}
        emit_json(document | extra)
        return
    sys.stdout.write(
        f"{out}: {metadata.name} (id {trained.arch.id}), {trained.task}, {model_format}, {model.precision}\n"
        f"size    {model.size_bytes / 2**20:.2f} MiB in {', '.join(file.name for file in files)}\n"
        f"input   {metadata.input.name} (1, 3, {size[1]}, {size[0]})\n"
        + "".join(f"output  {output.name} ({', '.join(map(str, output.shape))})\n" for output in made.outputs)
        + f"cost    backbone {cost.backbone_macs / 1e6:.1f} M MACs, head {cost.head_macs / 1e6:.1f} M\n"
        + _judged(made, comparison)
        + f"card    {cards[0]}\nNext: {as_typed(next_command)}\n"
    )


def _judged(made: DenseDeployable, comparison: DenseComparison | None) -> str:
    lines = ""
    if made.model.parity_max_abs is not None:
        lines = (
            f"parity  within {made.model.parity_max_abs:.1e} of torch's largest value "
            f"({made.model.parity_tolerance:.1e} allowed)\n"
        )
    if comparison is not None:
        scores = ", ".join(
            f"{name.replace('_', ' ')} {after:.2f} % ({comparison.scores_before_percent[name]:.2f} % before)"
            for name, after in comparison.scores_after_percent.items()
        )
        lines += f"scores  {scores} on {comparison.images} images\n"
    elif made.model.precision == "int8":
        lines += "scores  unknown: --evaluate DATA measures what int8 costs\n"
    return lines
