"""The formats that `hwnas export` writes: files of each, how they are made, and how they are run.

Importing this loads no torch and no runtime: a writer imports what it needs when it is called.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hwnas.export.onnx_graph import Batch
    from hwnas.nn.network import Network

    Array = NDArray[np.float32]

__all__ = [
    "FORMATS",
    "INPUT",
    "OUTPUT",
    "SUFFIXES",
    "Files",
    "Format",
    "Run",
    "RunAll",
    "Wanted",
    "openvino_files",
    "run_of",
]

INPUT, OUTPUT = "images", "logits"
"""Names in every exported file."""

Files = Mapping[str, bytes]
"""The content of each file by its suffix."""
Run = Callable[["Array"], "Array"]
"""Images (N, 3, R, R) -> logits (N, classes)."""
RunAll = Callable[["NDArray[Any]"], "Sequence[Array]"]
"""The one input of a model -> all of its outputs."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file is written for."""

    batch: Batch
    opset: int
    calibration: Iterable[Array] | None = None
    """Batches of images that show how large activations get; given for int8."""

    @property
    def precision(self) -> str:
        return "fp32" if self.calibration is None else "int8"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that networks are exported to."""

    name: str
    suffixes: tuple[str, ...]
    """Of its files; the last is that of the file that is named when the model is loaded."""
    ending: str
    """Of that file's name where the user gives none: files of two formats must not take each other's."""
    runtime: str
    """The file of `hwnas/runtimes` that it is for, whose deployment graph it has."""
    title: str
    """What that runtime is called."""
    package: str
    """What writes and checks it."""
    extra: str
    """Extra of hwnas that brings the package."""
    relative_tolerance: float
    """How far the runtime's logits may be from torch's, over the largest logit."""
    precisions: tuple[str, ...]
    writer: Callable[[Network, Wanted], Files]
    """Makes the files of a network with the runtime's deployment graph; the named file's is last."""
    packer: Callable[[Files, tuple[int, ...]], bytes]
    """The files and the shape (C, H, W) of an image -> the model in one piece, as the runtime takes it."""
    loader: Callable[[bytes, Batch], Run]
    """A model in one piece -> what runs as many images at once as it was written for."""

    @property
    def suffix(self) -> str:
        """Of the file that names the model."""
        return self.suffixes[-1]


# --- ONNX ----------------------------------------------------------------------------------------


def _write_onnx(network: Network, wanted: Wanted) -> Files:
    from hwnas.export.onnx_graph import network_graph
    from hwnas.export.quantise import quantise

    data = network_graph(network, batch=wanted.batch, opset=wanted.opset)
    return {".onnx": data if wanted.calibration is None else quantise(data, wanted.calibration)}


def _load_onnx(model: bytes, batch: Batch) -> Run:
    run = _run_onnx(model)
    return lambda images: run(images)[0]


def _run_onnx(model: bytes) -> RunAll:
    ort = plugins.require("onnxruntime", extra="torch")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})


# --- OpenVINO ------------------------------------------------------------------------------------


def _write_openvino(network: Network, wanted: Wanted) -> Files:
    from hwnas.export.onnx_graph import network_graph

    return openvino_files(network_graph(network, batch=wanted.batch, opset=wanted.opset))


def openvino_files(data: bytes) -> Files:
    """An ONNX model as OpenVINO's two files, in float32."""
    openvino: Any = plugins.require("openvino", extra="openvino")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(openvino.Core().read_model(data), str(path), compress_to_fp16=False)
        return {".bin": path.with_suffix(".bin").read_bytes(), ".xml": path.read_bytes()}


def _pack_openvino(files: Files, shape: tuple[int, ...]) -> bytes:
    from hwnas.runtimes.openvino import packed

    return packed(files[".xml"], files[".bin"])


def _load_openvino(model: bytes, batch: Batch) -> Run:
    run = _run_openvino(model)
    return lambda images: run(images)[0]


def _run_openvino(model: bytes) -> RunAll:
    from hwnas.runtimes.openvino import read

    openvino: Any = plugins.require("openvino", extra="openvino")
    core = openvino.Core()
    compiled = core.compile_model(read(core, model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: list(compiled(images).values())


# --- ncnn ----------------------------------------------------------------------------------------


def _write_ncnn(network: Network, wanted: Wanted) -> Files:
    import onnx

    from hwnas.export.ncnn.lowering import OPSET, lower_to_ncnn
    from hwnas.export.onnx_graph import network_graph

    if wanted.batch != 1:
        raise UsageError(f"ncnn: batch must be 1, got {wanted.batch}: its tensors have no batch dimension")
    graph = onnx.load_from_string(network_graph(network, opset=OPSET))
    param, weights = lower_to_ncnn(graph).files()
    return {".bin": weights, ".param": param.encode()}


def _pack_ncnn(files: Files, shape: tuple[int, ...]) -> bytes:
    from hwnas.export.ncnn.pack import packed_files

    return packed_files(files[".param"], files[".bin"], source=INPUT, shape=shape, sink=OUTPUT)


def _load_ncnn(model: bytes, batch: Batch) -> Run:
    from hwnas.runtimes.ncnn import prepare

    return prepare(model, threads=1, batch=1, precision="fp32").compute


# --- LiteRT ---------------------------------------------------------------------------------------


def _write_litert(network: Network, wanted: Wanted) -> Files:
    from hwnas.export.litert import network_model

    if wanted.batch == "dynamic":
        raise UsageError("litert: a file is for a fixed batch, got 'dynamic': give --batch N")
    return {".tflite": network_model(network, batch=wanted.batch)}


def _load_litert(model: bytes, batch: Batch) -> Run:
    from hwnas.runtimes.litert import prepare

    assert batch != "dynamic"
    return prepare(model, threads=1, batch=batch, precision="fp32").compute


# --- torch ---------------------------------------------------------------------------------------


def _write_exported_program(network: Network, wanted: Wanted) -> Files:
    import torch

    from hwnas.nn.attention._windows import Windows

    side, dynamic = network.arch.resolution, wanted.batch == "dynamic"
    windows = [module.windows for module in network.modules() if hasattr(module, "windows")]
    if dynamic and any(cut.per_side > 1 for cut in windows if isinstance(cut, Windows)):
        raise UsageError(
            "exported-program: torch.export needs a fixed batch for a network with windows: give --batch N, "
            "or use --format onnx"
        )
    example = torch.zeros(2 if wanted.batch == "dynamic" else wanted.batch, 3, side, side)
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1, max=4096)}} if dynamic else None
    stream = io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(network, (example,), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, stream)
    return {".pt2": stream.getvalue()}


def _load_exported_program(model: bytes, batch: Batch) -> Run:
    import torch

    from hwnas.runtimes.torch import load_program

    module = load_program(model).module()

    def run(images: Array) -> Array:
        with torch.no_grad():
            logits: Array = module(torch.from_numpy(images)).numpy()
        return logits

    return run


def _only_file(files: Files, shape: tuple[int, ...]) -> bytes:
    (content,) = files.values()
    return content


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format(
            name="onnx",
            suffixes=(".onnx",),
            ending=".onnx",
            runtime="onnxruntime",
            title="ONNX Runtime",
            package="onnxruntime",
            extra="torch",
            relative_tolerance=5e-4,
            precisions=("fp32", "int8"),
            writer=_write_onnx,
            packer=_only_file,
            loader=_load_onnx,
        ),
        Format(
            name="openvino",
            suffixes=(".bin", ".xml"),
            ending=".openvino.xml",
            runtime="openvino",
            title="OpenVINO",
            package="openvino",
            extra="openvino",
            relative_tolerance=5e-4,
            precisions=("fp32",),
            writer=_write_openvino,
            packer=_pack_openvino,
            loader=_load_openvino,
        ),
        Format(
            name="ncnn",
            suffixes=(".bin", ".param"),
            ending=".ncnn.param",
            runtime="ncnn",
            title="ncnn",
            package="ncnn",
            extra="ncnn",
            relative_tolerance=2e-3,  # Winograd's convolutions round more
            precisions=("fp32",),
            writer=_write_ncnn,
            packer=_pack_ncnn,
            loader=_load_ncnn,
        ),
        Format(
            name="litert",
            suffixes=(".tflite",),
            ending=".tflite",
            runtime="litert",
            title="LiteRT",
            package="litert_torch",
            extra="litert",
            relative_tolerance=5e-4,
            precisions=("fp32",),
            writer=_write_litert,
            packer=_only_file,
            loader=_load_litert,
        ),
        Format(
            name="exported-program",
            suffixes=(".pt2",),
            ending=".pt2",
            runtime="torch",
            title="torch.export",
            package="torch",
            extra="torch",
            relative_tolerance=5e-4,
            precisions=("fp32",),
            writer=_write_exported_program,
            packer=_only_file,
            loader=_load_exported_program,
        ),
    )
}
"""By name. Another format is another entry: parity, accuracy, the card and `hwnas measure` follow."""


def run_of(files: Files, model_format: str) -> RunAll:
    """Runs an ONNX or OpenVINO model whose input is not `images` alone, or which has several outputs."""
    form = FORMATS[model_format]
    return {"onnx": _run_onnx, "openvino": _run_openvino}[model_format](form.packer(files, ()))


SUFFIXES = tuple(form.suffix for form in FORMATS.values())
"""Of the files that name an exported model."""
