"""session_of(path): an exported file, opened with the runtime of its format alone; torch only for .pt2."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas import plugins
from hwnas.errors import FileFormatError
from hwnas.export.foreign_files import require_whole
from hwnas.export.metadata import FileMetadata

__all__ = ["Session", "session_of"]

Session = Callable[[NDArray[Any]], Sequence[NDArray[np.float32]]]
"""One input with its batch -> the file's outputs, in the order of its metadata."""


def session_of(path: Path, metadata: FileMetadata) -> Session:
    """The file, ready to be called.

    Raises MissingPackageError when the runtime is not installed, FileFormatError when it cannot read the
    file.
    """
    package, extra, open_file = _OPENED[metadata.model_format]
    runtime: Any = plugins.require(package, extra=extra)
    try:
        return open_file(runtime, path, metadata)
    except FileFormatError:
        raise
    except Exception as error:  # runtimes' own errors have no common base
        reason = " ".join(str(error).split())[:200]
        raise FileFormatError(f"{path}: {package} cannot read this file: {reason}. Export it again") from None


def _onnx(ort: Any, path: Path, metadata: FileMetadata) -> Session:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    require_whole(path.read_bytes(), path)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in metadata.outputs]
    return lambda images: session.run(names, {metadata.input.name: images})


def _openvino(openvino: Any, path: Path, metadata: FileMetadata) -> Session:
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: list(compiled(images).values())


def _ncnn(ncnn: Any, path: Path, metadata: FileMetadata) -> Session:
    net = ncnn.Net()
    option = net.opt
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
    option.use_vulkan_compute = False
    option.num_threads = int(os.environ.get("OMP_NUM_THREADS") or option.num_threads)
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix(".bin"))) != 0:
        raise FileFormatError(f"{path}: ncnn cannot read this file and its .bin. Export it again")

    def run(images: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        extractor = net.create_extractor()
        extractor.input(metadata.input.name, ncnn.Mat(np.ascontiguousarray(images[0])).clone())
        return [np.array(extractor.extract(output.name)[1])[None] for output in metadata.outputs]

    return run


def _program(torch: Any, path: Path, metadata: FileMetadata) -> Session:
    from hwnas.runtimes.torch import load_program

    module = load_program(path.read_bytes()).module()

    def run(images: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        with torch.no_grad():
            found = module(torch.from_numpy(images))
        return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]

    return run


def _litert(interpreter: Any, path: Path, metadata: FileMetadata) -> Session:
    run = interpreter.Interpreter(model_path=str(path)).get_signature_runner()

    def outputs(images: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        found = run(**{metadata.input.name: images})
        return [found[output.name] for output in metadata.outputs]

    return outputs


_OPENED: Mapping[str, tuple[str, str, Callable[[Any, Path, FileMetadata], Session]]] = {
    "onnx": ("onnxruntime", "predict", _onnx),
    "openvino": ("openvino", "openvino", _openvino),
    "ncnn": ("ncnn", "ncnn", _ncnn),
    "litert": ("ai_edge_litert.interpreter", "litert", _litert),
    "exported-program": ("torch", "torch", _program),
}
"""By format: the package that reads it, the extra that brings it, and how the file is opened."""
