"""Networks and ops as ONNX: BatchNorm folded, weights inside, checked against torch before written."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from torch import Tensor

from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.export.fast_form import fast_form
from hwnas.export.onnx_writer import MIN_OPSET, record
from hwnas.export.timing.random_weights import randomise, repeat_weights
from hwnas.io.atomic import write_whole
from hwnas.nn.folding import fold
from hwnas.nn.network import Network, build, build_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec

__all__ = [
    "OPSET",
    "Batch",
    "Export",
    "export_onnx",
    "fast_model",
    "network_model",
    "one_thread",
    "op_model",
    "published_model",
]

OPSET = MIN_OPSET
"""The default: what ONNX Runtime 1.12 (2022) and later run, and so boards that are not up to date."""
RELATIVE_TOLERANCE = 5e-4
"""How far ONNX Runtime's logits may be from torch's, over the largest logit."""

Batch = int | Literal["dynamic"]


@dataclass(frozen=True, slots=True)
class Export:
    """A written ONNX file."""

    path: Path
    size_bytes: int
    nodes: int
    """Nodes of the graph as written; a runtime fuses some of them."""
    opset: int
    parity_max_abs: float | None
    """Largest difference of a logit between ONNX Runtime and torch; None when not checked."""
    parity_tolerance: float | None
    """What that difference was allowed to be."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread meanwhile, so that its pool does not spin beside what is timed next."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def export_onnx(
    network: Network | ArchSpec,
    path: str | Path,
    *,
    batch: Batch = 1,
    opset: int = OPSET,
    check: bool = True,
) -> Export:
    """Writes one ONNX file, all weights in it: `images` (B, 3, R, R) -> `logits` (B, classes).

    The graph is the fast form of the network (`hwnas.export.fast_form`); what latency tables are measured
    on is the published form (`network_model`). An ArchSpec stands for a network with random weights, for
    timing. With `check`, ONNX Runtime must give what the network gives in torch (in eval mode, before
    folding), or no file is written. The file
    appears whole or not at all. Raises UsageError for a batch or an opset that can't be, or a path that
    can't be written; HwnasError when the parity check fails.
    """
    path = Path(path)
    _check_batch(batch)
    if isinstance(network, ArchSpec):
        network = randomise(build(network))
    if next(network.parameters()).dtype != torch.float32:
        network = copy.deepcopy(network).float()
    model = _recorded(fast_form(network), batch, opset)
    data = _serialised(model)
    difference, tolerance = _parity(network, data, batch) if check else (None, None)
    _write(path, data)
    return Export(path, len(data), len(model.graph.node), opset, difference, tolerance)


def network_model(arch: ArchSpec, *, batch: int = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of a network to be timed: the published form, with weights that nobody trained.

    They are random and repeat (see `random_weights` and `repeated_weights`).
    """
    network = repeat_weights(fold(randomise(build(arch))))
    return _serialised(_recorded(network, batch, opset))


def published_model(network: Network, *, batch: Batch = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of a network in its published form: the nodes that latency tables are measured on."""
    return _serialised(_recorded(fold(network), batch, opset))


def fast_model(network: Network, *, batch: Batch = 1, opset: int = OPSET) -> bytes:
    """The ONNX model that `export_onnx` writes, unchecked."""
    return _serialised(_recorded(fast_form(network), batch, opset))


def op_model(op: OpSpec, *, batch: int = 1, opset: int = OPSET) -> bytes:
    """The ONNX model of one op to be timed, `input` -> `output`: the nodes a network has for it.

    Weights are those of `network_model`. Takes some milliseconds.
    """
    module = repeat_weights(fold(randomise(build_op(op))))
    example = torch.zeros(batch, *op.in_shape)
    model, _ = record(module, example, input_name="input", output_name="output", opset=opset)
    return _serialised(model)


def _recorded(network: Network, batch: Batch, opset: int) -> onnx.ModelProto:
    """The graph of a network that is folded already."""
    side = network.arch.resolution
    model, _ = record(
        network.cpu(),
        torch.zeros(1 if batch == "dynamic" else batch, 3, side, side),
        input_name="images",
        output_name="logits",
        places={op.place: op.place for op in network.ops},
        dynamic_batch=batch == "dynamic",
        opset=opset,
    )
    return model


def _serialised(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _check_batch(batch: Batch) -> None:
    if batch != "dynamic" and (type(batch) is not int or batch < 1):
        raise UsageError(f"batch must be a whole number from 1, or 'dynamic', got {batch!r}")


def _parity(network: Network, data: bytes, batch: Batch) -> tuple[float, float]:
    """(largest difference, tolerance) of the logits; raises HwnasError when out of tolerance."""
    runtime = plugins.require("onnxruntime", extra="torch")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    side = network.arch.resolution
    random = torch.Generator().manual_seed(0)
    difference, largest = 0.0, 0.01
    for count in (1, 3) if batch == "dynamic" else (batch,):
        images = torch.randn(count, 3, side, side, generator=random)
        expected = _eval_logits(network, images)
        got = session.run(["logits"], {"images": images.numpy()})[0]
        difference = float(np.maximum(difference, np.abs(got - expected).max()))  # unlike max, keeps NaN
        largest = float(np.maximum(largest, np.abs(expected).max()))
    tolerance = RELATIVE_TOLERANCE * largest
    if not difference <= tolerance:  # NaN fails too
        raise HwnasError(
            f"the exported network must agree with torch to {tolerance:.1e}, got a difference of "
            f"{difference:.1e}; no file was written. Check the weights for NaN, or report this network"
        )
    return difference, tolerance


@torch.no_grad()
def _eval_logits(network: Network, images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    was_training = network.training
    try:
        logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
        logits = network.eval()(images.to(next(network.parameters()).device)).cpu().numpy()
    finally:
        network.train(was_training)
    return logits


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}. Choose another --out") from None
