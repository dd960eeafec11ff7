"""export(), and the ExportedModel that it returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.api.networks import Arch, arch_of
from hwnas.api.training import TrainedModel
from hwnas.errors import UsageError
from hwnas.named import dense_checkpoint, folder_of, named_network

__all__ = ["ExportedModel", "export"]


@dataclass(frozen=True, slots=True, repr=False)
class ExportedModel(os.PathLike[str]):
    """A network as files for a runtime. Usable as a path: `open(model)`, `Path(model)`."""

    path: Path
    """The file that names the model."""
    files: tuple[Path, ...]
    """All files of the model."""
    card_path: Path
    """The model card as JSON; a Markdown one lies beside it."""
    card: Mapping[str, Any]
    """The content of the card: interface, size, parity, accuracy, latency, training."""
    parity_max_abs: float | None
    """Largest difference of a logit from torch's; None for int8."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        size_mib = sum(file.stat().st_size for file in self.files if file.exists()) / 2**20
        parity = "" if self.parity_max_abs is None else f", within {self.parity_max_abs:.1e} of torch"
        kind = f"{self.card['format']} {self.card['precision']}"
        return f"ExportedModel({self.path}: {kind}, {size_mib:.2f} MiB{parity})"


def export(
    model: TrainedModel | Arch,
    out: str | Path,
    *,
    format: str = "onnx",  # the word of the command line
    precision: str = "fp32",
    calibration: str | Path | None = None,
    evaluate: str | Path | None = None,
    batch: int | str = 1,
    preprocess: str = "outside",
    opset: int | None = None,
    over_budget: str = "stop",
) -> ExportedModel:
    """Writes a classifier as files for a runtime, with a model card beside them.

        file = hwnas.export(model, "model.onnx", evaluate="photos.tar")

    model: a trained model, its folder, or a checkpoint. An architecture gets random weights, which is
        enough for timing.
    out: the file to write.
    format: "onnx", "openvino", "ncnn", "litert" or "exported-program".
    precision: "fp32", or "int8" (ONNX), which needs `calibration` images.
    evaluate: labelled images: the card says the accuracy before and after.
    batch: images per inference, or "dynamic".
    preprocess: "inside" writes a file that takes RGB pixels, uint8 (N, side, side, 3), and returns
        probabilities; "outside" takes `images` (N, 3, side, side) float32 and returns `logits` (N, classes).
    opset: ONNX operator set (17).
    over_budget: "stop" raises OverBudgetError for a network that was changed since its run and exceeds the
        run's budget; "ok" writes it.

    Raises HwnasError, and writes nothing, when the runtime's logits are not torch's; UsageError for wrong
    options; MissingPackageError when the format's runtime is not installed. Detectors and segmentation
    networks are exported by `hwnas export` on the command line.
    """
    for package in ("torch", "onnx", "onnxruntime"):
        plugins.require(package, extra="torch")
    from hwnas.export.classifier import ExportSettings, check_out, export_classifier
    from hwnas.export.onnx_graph import OPSET
    from hwnas.export.timing.random_weights import randomise
    from hwnas.nn.network import Network, build
    from hwnas.predictors.latency.budget_check import hold_budgets
    from hwnas.predictors.latency.measurements import recorded

    if isinstance(batch, str) and batch != "dynamic":
        raise UsageError(f"invalid batch '{batch}': give a whole number from 1, or 'dynamic'")
    settings = ExportSettings(
        model_format=format,
        batch="dynamic" if isinstance(batch, str) else batch,
        precision=precision,
        preprocess=preprocess,
        opset=OPSET if opset is None else opset,
        calibration=None if calibration is None else Path(calibration),
        evaluate=None if evaluate is None else Path(evaluate),
    )
    path = Path(out)
    check_out(path, format)
    folder: Path | None = None
    if isinstance(model, TrainedModel):
        model = model.path
    if isinstance(model, str | Path):
        if dense_checkpoint(str(model)) is not None:
            raise UsageError(
                f"{model} is a detector or segmentation network: export it with "
                f"'hwnas export {model} --out {path}'"
            )
        name, network, trained = named_network(str(model))
        promise = arch_of(model)[2] if trained is None else trained.promise
        folder = folder_of(str(model))
    else:
        name, spec, promise = arch_of(model)
        built = randomise(build(spec))
        assert isinstance(built, Network)
        network, trained = built, None
    targets = hold_budgets({name: (network.arch, promise)}, over_budget=over_budget, say=lambda line: None)
    done = export_classifier(
        name,
        network,
        path,
        settings,
        trained=trained,
        promise=promise,
        targets=targets,
        measured=() if folder is None else recorded(folder, network.arch.id),
    )
    return ExportedModel(
        path=done.path,
        files=done.files,
        card_path=next(card for card in done.cards if card.suffix == ".json"),
        card=done.card,
        parity_max_abs=done.model.parity_max_abs,
    )
