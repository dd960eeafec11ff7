"""A trained network as files for a runtime: ONNX (fp32 and int8), OpenVINO, ncnn, torch's exported program.

Each is run, by the runtime that it is for, before anything is written, and must give torch's logits.
"""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.export.fast_form import fast_form
from hwnas.export.graphs import OPSET, Batch, fast_model, published_model
from hwnas.export.ncnn.lowering import OPSET as NCNN_OPSET
from hwnas.export.ncnn.lowering import lower_to_ncnn
from hwnas.export.ncnn.pack import packed
from hwnas.export.quantise import quantise
from hwnas.io.atomic import write_whole
from hwnas.nn.attention._windows import Windows
from hwnas.nn.network import Network
from hwnas.runtimes import ncnn as ncnn_runtime

__all__ = ["FORMATS", "Deployable", "prepare", "write"]

Array = NDArray[np.float32]
Run = Callable[[Array], Array]
Files = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that networks are exported to."""

    suffix: str
    """Of the file that is named when the model is loaded."""
    ending: str
    """Of that file's name where the user gives none: files of two formats must not take each other's."""
    runtime: str
    """What checks it."""
    package: str
    relative_tolerance: float
    """How far the runtime's logits may be from torch's, over the largest logit."""


FORMATS = {
    "onnx": Format(".onnx", ".onnx", "ONNX Runtime", "onnxruntime", 5e-4),
    "openvino": Format(".xml", ".openvino.xml", "OpenVINO", "openvino", 5e-4),
    "ncnn": Format(".param", ".ncnn.param", "ncnn", "ncnn", 2e-3),  # Winograd's convolutions round more
    "exported-program": Format(".pt2", ".pt2", "torch.export", "torch", 5e-4),
}


@dataclass(frozen=True, slots=True)
class Deployable:
    """A network in a format, checked, not yet written."""

    model_format: str
    precision: str
    """fp32 or int8."""
    files: Files
    """(suffix, content) of each file; the one that names the model is last."""
    run: Run
    """Images (N, 3, R, R) -> logits (N, classes), computed by the format's runtime."""
    parity_max_abs: float | None
    """Largest difference of a logit from torch's; None for int8, which is judged by accuracy."""
    parity_tolerance: float | None

    @property
    def size_bytes(self) -> int:
        return sum(len(content) for _, content in self.files)


def prepare(
    network: Network,
    *,
    model_format: str = "onnx",
    batch: Batch = 1,
    opset: int = OPSET,
    calibration: Iterable[Array] | None = None,
) -> Deployable:
    """The network in a format, run once and compared with torch.

    With `calibration`, batches of images like those to come, the ONNX model is quantised to int8: it
    keeps the published form, which is what int8 latency tables are measured on. Raises UsageError for a
    format, batch or precision that there isn't, MissingPackageError for a runtime that is not installed,
    and HwnasError when the logits are not torch's.
    """
    if model_format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got '{model_format}'")
    if calibration is not None and model_format != "onnx":
        raise UsageError(f"int8 is exported to onnx only, got the format '{model_format}'")
    if model_format == "ncnn" and batch != 1:
        raise UsageError(f"ncnn: batch must be 1, got {batch}: its tensors have no batch dimension")
    plugins.require(FORMATS[model_format].package, extra="torch")
    network = copy.deepcopy(network).float().cpu().eval()
    if calibration is not None:
        data = quantise(published_model(network, batch=batch, opset=opset), calibration)
        return Deployable("onnx", "int8", ((".onnx", data),), _onnx_run(data, batch), None, None)
    files, run = _MAKERS[model_format](network, batch, opset)
    difference, tolerance = _parity(network, run, batch, model_format)
    return Deployable(model_format, "fp32", files, run, difference, tolerance)


def write(model: Deployable, path: Path) -> tuple[Path, ...]:
    """Writes the files, `path` being the one that names the model; each appears whole or not at all.

    Raises UsageError when one cannot be written, or is part of another model.
    """
    check_path(path, model.model_format)
    written = []
    for suffix, content in model.files:
        file = path if suffix == FORMATS[model.model_format].suffix else path.with_suffix(suffix)
        try:
            write_whole(file, content)
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}. Choose another --out") from None
        written.append(file)
    return tuple(written)


def check_path(path: Path, model_format: str) -> None:
    """Refuses a path whose weights' file, NAME.bin, another model has: UsageError."""
    for name, other in FORMATS.items():
        beside = path.with_suffix(other.suffix)
        if {name, model_format} == {"openvino", "ncnn"} and beside.exists():
            raise UsageError(
                f"{path.with_suffix('.bin')} has the weights of {beside}, which this export would replace: "
                "choose another name, such as --out "
                f"{path.with_name(path.stem + FORMATS[model_format].ending)}"
            )


# --- one maker a format ------------------------------------------------------------------------


def _onnx(network: Network, batch: Batch, opset: int) -> tuple[Files, Run]:
    data = fast_model(network, batch=batch, opset=opset)
    return ((".onnx", data),), _onnx_run(data, batch)


def _onnx_run(data: bytes, batch: Batch) -> Run:
    ort = plugins.require("onnxruntime", extra="torch")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return _of_any_count(lambda images: session.run(["logits"], {"images": images})[0], batch)


def _openvino(network: Network, batch: Batch, opset: int) -> tuple[Files, Run]:
    openvino: Any = plugins.require("openvino", extra="torch")
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        model = core.read_model(fast_model(network, batch=batch, opset=opset))
        openvino.save_model(model, str(path), compress_to_fp16=False)
        files = ((".bin", path.with_suffix(".bin").read_bytes()), (".xml", path.read_bytes()))
        compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return files, _of_any_count(lambda images: compiled(images)[0], batch)


def _ncnn(network: Network, batch: Batch, opset: int) -> tuple[Files, Run]:
    data = published_model(network, opset=NCNN_OPSET)
    param, weights = lower_to_ncnn(onnx.load_from_string(data)).files()
    session = ncnn_runtime.prepare(packed(data), threads=1, batch=1, precision="fp32")
    return ((".bin", weights), (".param", param.encode())), _of_any_count(session.compute, 1)


def _exported_program(network: Network, batch: Batch, opset: int) -> tuple[Files, Run]:
    side = network.arch.resolution
    dynamic = batch == "dynamic"
    windows = [module.windows for module in network.modules() if hasattr(module, "windows")]
    if dynamic and any(cut.per_side > 1 for cut in windows if isinstance(cut, Windows)):
        raise UsageError(
            "exported-program: a network that cuts its maps into windows is exported for a fixed batch, as "
            "torch.export needs there: give --batch N, or take --format onnx"
        )
    example = torch.zeros(2 if batch == "dynamic" else batch, 3, side, side)
    shapes = {"images": {0: torch.export.Dim("batch", min=1, max=4096)}} if dynamic else None
    stream = io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(fast_form(network), (example,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, stream)
    data = stream.getvalue()
    module = torch.export.load(io.BytesIO(data)).module()

    def run(images: Array) -> Array:
        with torch.no_grad():
            logits: Array = module(torch.from_numpy(images)).numpy()
        return logits

    return ((".pt2", data),), _of_any_count(run, batch)


_MAKERS: dict[str, Callable[[Network, Batch, int], tuple[Files, Run]]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "exported-program": _exported_program,
}


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


def _parity(network: Network, run: Run, batch: Batch, model_format: str) -> tuple[float, float]:
    """(largest difference, tolerance); raises HwnasError when out of tolerance."""
    side, form = network.arch.resolution, FORMATS[model_format]
    images: Tensor = torch.randn(
        3 if batch == "dynamic" else batch, 3, side, side, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        expected = network(images).numpy()
    difference = float(np.abs(run(images.numpy()) - expected).max())
    tolerance = form.relative_tolerance * max(float(np.abs(expected).max()), 0.01)
    if not difference <= tolerance:  # NaN fails too
        raise HwnasError(
            f"{model_format}: the exported network must agree with torch to {tolerance:.1e} in "
            f"{form.runtime}, got a difference of {difference:.1e}; no file was written. Check the weights "
            "for NaN, or report this network"
        )
    return difference, tolerance
