"""pixels_inside(model): an exported classifier that takes pixels and gives probabilities.

Scaling and cropping stay with the caller: ONNX's Resize does not antialias as Pillow does, which costs
more accuracy than the tolerance of an export.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.preprocessing import Preprocessing
from hwnas.errors import HwnasError, UsageError
from hwnas.export.deploy import Array, Deployable
from hwnas.export.formats import Files, openvino_files, run_of
from hwnas.export.onnx_edges import with_pixels_in, with_probabilities
from hwnas.export.onnx_graph import Batch

__all__ = ["INSIDE_FORMATS", "check_inside", "pixels_inside"]

INSIDE_FORMATS = ("onnx", "openvino")
TOLERANCE = 5e-4
"""How far a probability may be from torch's."""


def check_inside(model_format: str) -> None:
    """Raises UsageError for a format that has no preprocessing inside."""
    if model_format not in INSIDE_FORMATS:
        raise UsageError(
            f"--preprocess inside is available for {' and '.join(INSIDE_FORMATS)}, got the format "
            f"'{model_format}'. Leave it out, or take another --format"
        )


def pixels_inside(
    onnx_model: Deployable,
    network: torch.nn.Module,
    preprocessing: Preprocessing,
    *,
    model_format: str,
    batch: Batch,
) -> Deployable:
    """The ONNX model with normalisation before it and softmax after it, as a file of `model_format`.

    Input `photos`, uint8 RGB (N, H, W, 3), already scaled and cropped; output `probabilities`. Its `run`
    takes normalised images, as that of any Deployable. Raises HwnasError when the probabilities are not
    torch's.
    """
    check_inside(model_format)
    data = with_probabilities(with_pixels_in(onnx_model.files[".onnx"], preprocessing))
    files: Files = {".onnx": data} if model_format == "onnx" else openvino_files(data)
    run_all = run_of(files, model_format)
    count = 4 if batch == "dynamic" else batch
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))

    def run(images: Array) -> Array:
        pixels = np.rint((images * std + mean) * preprocessing.divide_by).clip(0, 255).astype(np.uint8)
        found = []
        for start in range(0, len(images), count):
            part = pixels[start : start + count].transpose(0, 2, 3, 1)
            filled = np.concatenate([part, np.zeros((count - len(part), *part.shape[1:]), np.uint8)])
            found.append(run_all(np.ascontiguousarray(filled))[0][: len(part)])
        return np.concatenate(found)

    difference = None
    if onnx_model.precision == "fp32":
        difference = _difference(network, run, preprocessing)
        if not difference <= TOLERANCE:  # NaN fails too
            raise HwnasError(
                f"{model_format}: probabilities differ from torch by {difference:.1e}, {TOLERANCE:.1e} is "
                "allowed; no file was written. Check the weights for NaN, or report this network"
            )
    return dataclasses.replace(
        onnx_model,
        model_format=model_format,
        files=files,
        run=run,
        parity_max_abs=difference,
        parity_tolerance=None if difference is None else TOLERANCE,
    )


def _difference(network: torch.nn.Module, run: Any, preprocessing: Preprocessing) -> float:
    shape = (4, preprocessing.height, preprocessing.width, 3)
    photos: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = np.stack([preprocessing.normalised(photo) for photo in photos])
    training = network.training
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).softmax(1).numpy()
    network.train(training)
    return float(np.abs(run(images) - expected).max())
