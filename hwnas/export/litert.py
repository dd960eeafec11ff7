"""Networks and ops as .tflite files, by litert-torch: no TensorFlow and no ONNX in between.

LiteRT computes with the channels last. A network keeps its input `images` (N, 3, R, R), as in every other
format, and begins with a transposition; a model of one op takes and gives maps with the channels last, as
they lie within a network.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hwnas import plugins
from hwnas.nn.network import Network
from hwnas.space.ops import OpSpec

__all__ = ["network_model", "op_model"]


def network_model(network: Network, *, batch: int = 1) -> bytes:
    """The model of a deployed network, `images` -> `logits`; takes about 10 s.

    Raises MissingPackageError without litert-torch.
    """
    side = network.arch.resolution
    return _converted(_Named(network), kwargs={"images": torch.zeros(batch, 3, side, side)})


def op_model(module: nn.Module, op: OpSpec, *, batch: int = 1) -> bytes:
    """The model of the deployed module of one op: the operators that a network has for it.

    The input of a network's first op and the output of its last are as the network's own.
    """
    litert: Any = plugins.require("litert_torch", extra="litert")
    example = torch.zeros(batch, *op.in_shape)
    first, last = op.in_shape[0] == 3, len(op.out_shape) == 1
    if first and last:
        return _converted(_Whole(module), args=(example,))
    shown = litert.to_channel_last_io(_Whole(module), args=[] if first else [0], outputs=[] if last else [0])
    return _converted(shown, args=(example if first else example.permute(0, 2, 3, 1),))


class _OnePart(TorchFunctionMode):
    """A tensor that is split into one part is left as it is: litert-torch 0.10 fails on such a split."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.split and args[1] == args[0].shape[kwargs.get("dim", 0)]:
            return (args[0],)
        return func(*args, **kwargs)


class _Whole(nn.Module):
    """The module, its splits into one part left out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with _OnePart():
            result: Tensor = self.module(x)
        return result


class _Named(nn.Module):
    """The network, with names for input and output in the file's signature."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = _Whole(network)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(images)}


def _converted(
    module: nn.Module, *, args: tuple[Tensor, ...] = (), kwargs: Mapping[str, Tensor] | None = None
) -> bytes:
    litert: Any = plugins.require("litert_torch", extra="litert")
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.tflite"
        litert.convert(module.eval(), args, dict(kwargs or {})).export(str(path))
        return path.read_bytes()
