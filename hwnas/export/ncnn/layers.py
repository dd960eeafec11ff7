"""An ncnn model while it is written: layers as lines of text (.param), weights behind each other (.bin)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["NcnnLayers"]

Parameter = int | float | Sequence[int]

_MAGIC = 7767517
_ARRAY_KEY = -23300  # an array is stored under this number less its own


class NcnnLayers:
    """Layers in the order they run in. A blob is the name of what a layer gives.

    A blob may be read by many layers here; the written model has a `Split` layer there, because in
    ncnn's a blob has one reader.
    """

    def __init__(self) -> None:
        self._layers: list[tuple[str, list[str], list[str], Mapping[int, Parameter]]] = []
        self._weights: list[bytes] = []
        self._blobs = 0

    def input(self, name: str, shape: Sequence[int]) -> str:
        """The blob that an image or a feature map of `shape` (C, H, W) is put in."""
        channels, height, width = shape
        self._layers.append(("Input", [], [name], {0: width, 1: height, 2: channels}))
        return name

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        parameters: Mapping[int, Parameter] | None = None,
        *,
        weights: Sequence[np.ndarray[Any, Any]] = (),
        tagged: bool = False,
    ) -> str:
        """A layer with one output, whose blob it returns.

        `tagged` is for layers whose first weight may be stored in other types (convolutions and
        inner products): it is preceded by a word that says which, 0 for fp32.
        """
        if tagged:
            self._weights.append(bytes(4))
        self._weights.extend(np.ascontiguousarray(weight, "<f4").tobytes() for weight in weights)
        blob = self._fresh()
        self._layers.append((kind, list(inputs), [blob], parameters or {}))
        return blob

    def slice(self, blob: str, sizes: Sequence[int], axis: int) -> list[str]:
        """The parts of a blob along an axis of its (c, h, w)."""
        parts = [self._fresh() for _ in sizes]
        self._layers.append(("Slice", [blob], parts, {0: list(sizes), 1: axis}))
        return parts

    def rename(self, blob: str, name: str) -> None:
        """Gives a blob the name it has in the interface."""
        for _, inputs, outputs, _ in self._layers:
            for blobs in (inputs, outputs):
                blobs[:] = [name if each == blob else each for each in blobs]

    def files(self) -> tuple[str, bytes]:
        """The text of the .param file, and what goes into the .bin file."""
        layers = self._split_where_read_twice()
        blobs = sum(len(outputs) for _, _, outputs, _ in layers)
        lines = [str(_MAGIC), f"{len(layers)} {blobs}"]
        for index, (kind, inputs, outputs, parameters) in enumerate(layers):
            words = [kind, f"{kind.lower()}_{index}", str(len(inputs)), str(len(outputs)), *inputs, *outputs]
            lines.append(" ".join([*words, *(_written(key, value) for key, value in parameters.items())]))
        return "\n".join(lines) + "\n", b"".join(self._weights)

    def _fresh(self) -> str:
        self._blobs += 1
        return str(self._blobs)

    def _split_where_read_twice(self) -> list[tuple[str, list[str], list[str], Mapping[int, Parameter]]]:
        readers: dict[str, int] = {}
        for _, inputs, _, _ in self._layers:
            for blob in inputs:
                readers[blob] = readers.get(blob, 0) + 1
        left: dict[str, list[str]] = {}
        layers: list[tuple[str, list[str], list[str], Mapping[int, Parameter]]] = []
        for kind, inputs, outputs, parameters in self._layers:
            own = [left[blob].pop(0) if blob in left else blob for blob in inputs]
            layers.append((kind, own, outputs, parameters))
            for blob in outputs:
                if readers.get(blob, 0) > 1:
                    left[blob] = [f"{blob}_{copy}" for copy in range(readers[blob])]
                    layers.append(("Split", [blob], list(left[blob]), {}))
        return layers


def _written(key: int, value: Parameter) -> str:
    if isinstance(value, float):
        return f"{key}={value:e}"
    if isinstance(value, int):
        return f"{key}={value}"
    return f"{_ARRAY_KEY - key}={len(value)},{','.join(map(str, value))}"
