"""A classifier as checked files with a model card: what `hwnas export` and `hwnas.export()` do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.export import deploy, model_card
from hwnas.export import metadata as file_metadata
from hwnas.export.accuracy_check import Comparison, calibration_batches, compare
from hwnas.export.deploy import Deployable
from hwnas.export.formats import FORMATS
from hwnas.export.inside import check_inside, pixels_inside
from hwnas.export.metadata import FileMetadata
from hwnas.export.onnx_graph import OPSET, Batch
from hwnas.nn.network import Network
from hwnas.predictors.latency.budget_check import TargetCheck
from hwnas.predictors.latency.measurements import Measurement
from hwnas.targets import Promise
from hwnas.train.checkpoint import Checkpoint

__all__ = ["ExportSettings", "Exported", "check_out", "export_classifier", "file_ending"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """How a network is exported."""

    model_format: str = "onnx"
    """One of `hwnas.export.formats.FORMATS`."""
    batch: Batch = 1
    """Images per inference, or "dynamic"."""
    precision: str = "fp32"
    """fp32, or int8 with `calibration`."""
    preprocess: str = "outside"
    """`inside`: the file takes RGB pixels, uint8 (N, side, side, 3), and returns probabilities."""
    opset: int = OPSET
    """ONNX operator set."""
    calibration: Path | None = None
    """Images that set the ranges of int8 activations."""
    evaluate: Path | None = None
    """Labelled images for the accuracy before and after."""

    def __post_init__(self) -> None:
        if self.model_format not in FORMATS:
            raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got '{self.model_format}'")
        if self.precision not in ("fp32", "int8"):
            raise UsageError(f"--precision must be fp32 or int8, got '{self.precision}'")
        if (self.precision == "int8") != (self.calibration is not None):
            raise UsageError(
                f"--precision int8 and --calibration DATA go together, got {self.precision} "
                f"{'without' if self.calibration is None else 'with'} --calibration"
            )
        if self.preprocess not in ("outside", "inside"):
            raise UsageError(f"--preprocess must be outside or inside, got '{self.preprocess}'")
        if self.preprocess == "inside":
            check_inside(self.model_format)


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported network on the disk."""

    path: Path
    files: tuple[Path, ...]
    cards: tuple[Path, Path]
    """The model card as JSON and as Markdown, in the order of `model_card.write_card`."""
    card: dict[str, Any]
    model: Deployable
    metadata: FileMetadata
    comparison: Comparison | None


def file_ending(model_format: str, precision: str) -> str:
    """What a file of the format is called after its name: `.int8.onnx`."""
    return (".int8" if precision == "int8" else "") + FORMATS[model_format].ending


def check_out(out: Path, model_format: str) -> None:
    """Raises UsageError for a path that the format's file cannot be written to; before any work."""
    if out.is_dir():
        raise UsageError(f"--out must be a file, got the folder {out}: try --out {out / 'model.onnx'}")
    if not out.parent.is_dir():
        raise UsageError(f"--out: no folder {out.parent}: create it with mkdir -p {out.parent}")
    deploy.check_path(out, model_format)


def export_classifier(
    name: str,
    network: Network,
    out: Path,
    settings: ExportSettings,
    *,
    trained: Checkpoint | None = None,
    promise: Promise | None = None,
    targets: Sequence[TargetCheck] = (),
    measured: Sequence[Measurement] = (),
) -> Exported:
    """Writes `network` and its model card; `trained` is the checkpoint of its weights.

    Raises UsageError for settings that do not apply, MissingPackageError for a runtime that is not
    installed, and HwnasError when the runtime's logits are not torch's: then no file is written.
    """
    for package in ("torch", "onnx", "onnxruntime"):
        plugins.require(package, extra="torch")
    if trained is None and (settings.calibration or settings.evaluate):
        raise UsageError(
            "--calibration and --evaluate need trained weights, got an architecture: give a checkpoint"
        )
    is_inside = settings.preprocess == "inside"
    batch, model_format = settings.batch, settings.model_format
    model = deploy.prepare(
        network,
        model_format="onnx" if is_inside else model_format,
        batch=batch,
        opset=settings.opset,
        calibration=None
        if trained is None or settings.calibration is None
        else calibration_batches(trained, settings.calibration, batch=1 if batch == "dynamic" else batch),
    )
    metadata = file_metadata.of_classifier(
        name,
        network.arch,
        model_format=model_format,
        precision=settings.precision,
        batch=batch,
        preprocess=settings.preprocess,
        trained=trained,
        predicted=model_card.predicted_latency(network.arch),
        targets=[target.to_dict() for target in targets],
    )
    if is_inside:
        model = pixels_inside(model, network, metadata.preprocessing, model_format=model_format, batch=batch)
    model = dataclasses.replace(model, files=file_metadata.attach(metadata, model.files))
    comparison = (
        None
        if trained is None or settings.evaluate is None
        else compare(trained, network, model.run, settings.evaluate)
    )
    files = deploy.write(model, out)
    document = model_card.card(
        name,
        network.arch,
        model,
        files,
        metadata=metadata,
        trained=trained,
        comparison=comparison,
        calibration=None if settings.calibration is None else settings.calibration.name,
        measured=measured,
        promise=promise,
        targets=targets,
    )
    cards = model_card.write_card(document, out)
    return Exported(out, tuple(files), cards, document, model, metadata, comparison)
