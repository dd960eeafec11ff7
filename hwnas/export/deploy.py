"""A trained network as files for a runtime, in the runtime's deployment graph.

The files are run by their runtime before anything is written, and must give torch's logits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.export.deployment_graph import deployed
from hwnas.export.formats import FORMATS, Files, Format, Run, Wanted
from hwnas.export.onnx_graph import OPSET, Batch
from hwnas.io.atomic import write_whole
from hwnas.nn.network import Network

__all__ = ["FORMATS", "Deployable", "check_path", "prepare", "write"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Deployable:
    """A network in a format, checked, not yet written."""

    model_format: str
    precision: str
    """fp32 or int8."""
    files: Files
    """The content of each file by its suffix; the one that names the model is last."""
    run: Run
    """Images (N, 3, R, R) -> logits (N, classes), computed by the format's runtime."""
    parity_max_abs: float | None
    """Largest difference of a logit from torch's; None for int8, which is judged by accuracy."""
    parity_tolerance: float | None

    @property
    def size_bytes(self) -> int:
        return sum(len(content) for content in self.files.values())


def prepare(
    network: Network,
    *,
    model_format: str = "onnx",
    batch: Batch = 1,
    opset: int = OPSET,
    calibration: Iterable[Array] | None = None,
) -> Deployable:
    """The network in a format, run once and compared with torch.

    With `calibration`, batches of images like those to come, the model is quantised to int8. Raises
    UsageError for a format, batch or precision that there isn't, MissingPackageError for a runtime that is
    not installed, and HwnasError when the logits are not torch's.
    """
    if model_format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got '{model_format}'")
    form, wanted = FORMATS[model_format], Wanted(batch, opset, calibration)
    if wanted.precision not in form.precisions:
        able = [name for name, other in FORMATS.items() if wanted.precision in other.precisions]
        raise UsageError(f"{wanted.precision} is exported to {', '.join(able)} only, got '{model_format}'")
    if batch != "dynamic" and (type(batch) is not int or batch < 1):
        raise UsageError(f"batch must be a whole number from 1, or 'dynamic', got {batch!r}")
    plugins.require(form.package, extra=form.extra)
    network = copy.deepcopy(network).float().cpu().eval()
    files = form.writer(deployed(network, form.runtime, wanted.precision), wanted)
    side = network.arch.resolution
    try:
        run = _of_any_count(form.loader(form.packer(files, (3, side, side)), batch), batch)
        if wanted.precision == "int8":
            return Deployable(model_format, "int8", files, run, None, None)
        difference, tolerance = _parity(network, run, batch, form)
    except RuntimeError as error:  # the runtime's own
        raise HwnasError(
            f"{form.name}: {form.title} cannot run this network: {error}; no file was written. Use another "
            "format, such as --format onnx, or a larger image size"
        ) from None
    return Deployable(model_format, "fp32", files, run, difference, tolerance)


def write(model: Deployable, path: Path) -> tuple[Path, ...]:
    """Writes the files, `path` being the one that names the model; each appears whole or not at all.

    Raises UsageError when one cannot be written, or is part of another model.
    """
    check_path(path, model.model_format)
    written = []
    for suffix, content in model.files.items():
        file = path if suffix == FORMATS[model.model_format].suffix else path.with_suffix(suffix)
        try:
            write_whole(file, content)
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}. Choose another --out") from None
        written.append(file)
    return tuple(written)


def check_path(path: Path, model_format: str) -> None:
    """Refuses a path that cannot name a model of the format: UsageError.

    Its ending must be the format's, by which `hwnas measure` and `predict` know the file; and its weights'
    file, NAME.bin, must not be another model's.
    """
    suffix = FORMATS[model_format].suffix
    if path.suffix != suffix:
        raise UsageError(
            f"{path}: a file of the format '{model_format}' ends in {suffix}, by which it is found again. "
            f"Use --out {path.with_name(path.stem + suffix)}"
        )
    for name, other in FORMATS.items():
        beside = path.with_suffix(other.suffix)
        if {name, model_format} == {"openvino", "ncnn"} and beside.exists():
            raise UsageError(
                f"{path.with_suffix('.bin')} has the weights of {beside}, which this export would replace: "
                "choose another name, such as --out "
                f"{path.with_name(path.stem + FORMATS[model_format].ending)}"
            )


def _of_any_count(run: Run, batch: Batch) -> Run:
    """A run of any number of images by one that takes `batch` at once: the last are filled up."""
    if batch == "dynamic":
        return run

    def several(images: Array) -> Array:
        logits = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            full = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), np.float32)])
            logits.append(np.array(run(full))[: len(part)])
        return np.concatenate(logits)

    return several


def _parity(network: Network, run: Run, batch: Batch, form: Format) -> tuple[float, float]:
    """(largest difference, tolerance); raises HwnasError when out of tolerance."""
    side = network.arch.resolution
    random = torch.Generator().manual_seed(0)
    difference, largest = 0.0, 0.01
    for count in (1, 3) if batch == "dynamic" else (batch,):
        images: Tensor = torch.randn(count, 3, side, side, generator=random)
        with torch.no_grad():
            expected = network(images).numpy()
        got = run(images.numpy())
        difference = float(np.maximum(difference, np.abs(got - expected).max()))  # unlike max, keeps NaN
        largest = float(np.maximum(largest, np.abs(expected).max()))
    tolerance = form.relative_tolerance * largest
    if not difference <= tolerance:  # NaN fails too
        raise HwnasError(
            f"{form.name}: the exported network must agree with torch to {tolerance:.1e} in "
            f"{form.title}, got a difference of {difference:.1e}; no file was written. Check the weights "
            "for NaN, or report this network"
        )
    return difference, tolerance
