"""ONNX graph, as `onnx_tape` writes it -> ncnn's layers.

ncnn knows no batch: its tensors are (c, h, w), (h, w) or (w). An image more or less is therefore not
a matter of shapes, and a batch of images is refused; but windowed attention has a batch of windows
within one image. How those are laid out is decided where it is needed, see `_Value`. For the rest
the layers are those that ncnn's own converter, pnnx, writes: activations inside convolutions, inner
products where the map is one pixel, a transposed second factor inside MatMul.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hwnas.errors import UsageError
from hwnas.export.ncnn.layers import NcnnLayers

__all__ = ["OPSET", "lower_to_ncnn"]

OPSET = 20
"""What the graph must be written in: from here on GELU is one node."""

_ACTIVATIONS = {"Relu": 1, "Sigmoid": 4}  # what Convolution and InnerProduct can do at their end
_C, _H, _W = 0, 1, 2  # ncnn's axes of a map
_SWAP_HW, _SWAP_CH = 1, 2  # orders of Permute
_SCALAR = 1

Form = Literal["rows", "channels", "matrix", "transposed"]
Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class _Value:
    """A tensor of the graph: how to get at it in ncnn, in one form or several.

    Of shape (n, C, H, W), n being windows, it can lie in ncnn as

    - `rows` (C, n * H, W), the windows below each other: for what works on single positions;
    - `channels` (n * C, H, W): for depthwise convolutions, each window with its own border;
    - `matrix` (n, C, H * W): for products.

    With n = 1 rows and channels are the same map (C, H, W), and the matrix is (C, H * W). A value of
    shape (n, A, B) is a `matrix`, or a `transposed` one (n, B, A) not yet turned.
    """

    shape: tuple[int, ...]
    makers: dict[Form, Callable[[], str]]
    blobs: dict[Form, str] = field(default_factory=dict)


def lower_to_ncnn(model: onnx.ModelProto) -> NcnnLayers:
    """The layers that do what `model` does for one image; its input and output keep their names.

    Raises UsageError for a batch other than 1 and for a node that there is no rule for.
    """
    return _Lowering(model).layers


class _Lowering:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.layers = NcnnLayers()
        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.shapes = {
            item.name: tuple(side.dim_value for side in item.type.tensor_type.shape.dim)
            for item in [*graph.input, *graph.value_info, *graph.output]
        }
        self.values: dict[str, _Value] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.fused: set[str] = set()
        (source,), (sink,) = graph.input, graph.output
        if self.shapes[source.name][0] != 1:
            raise UsageError(f"ncnn: batch must be 1, got {self.shapes[source.name][0]}: it has no batch")
        blob = self.layers.input(source.name, self.shapes[source.name][1:])
        self.values[source.name] = self._made(self.shapes[source.name], channels=blob)
        self.sink = sink.name
        for node in graph.node:
            if node.name not in self.fused:
                self._lower(node)
        self.layers.rename(self.get(self.values[sink.name], "channels"), sink.name)

    def _lower(self, node: onnx.NodeProto) -> None:
        rule = _RULES.get(node.op_type)
        if rule is None:
            raise UsageError(
                f"no ncnn rule for ONNX's '{node.op_type}': add one to hwnas/export/ncnn/lowering.py. "
                f"There are rules for {', '.join(_RULES)}"
            )
        rule(self, node, {item.name: helper.get_attribute_value(item) for item in node.attribute})

    # --- values and their forms ---

    def get(self, value: _Value, form: Form) -> str:
        """The blob that holds `value` in that form; layers are added when there is none yet."""
        if value.shape[0] == 1 and form == "rows":
            form = "channels"
        if form not in value.blobs:
            maker = value.makers.get(form)
            value.blobs[form] = maker() if maker else self._converted(value, form)
        return value.blobs[form]

    def _converted(self, value: _Value, form: Form) -> str:
        have = {*value.blobs, *value.makers}
        n, rows, *columns = value.shape
        if len(columns) < 2:  # a matrix
            other: Form = "matrix" if form == "transposed" else "transposed"
            return self.layers.add("Permute", [self.get(value, other)], {0: _SWAP_HW})
        height, width = columns
        if n == 1:
            if form == "matrix":
                return self._reshaped(self.get(value, "channels"), rows, height * width)
            return self._reshaped(self.get(value, "matrix"), rows, height, width)
        if form == "matrix":
            if "channels" in have:
                return self._reshaped(self.get(value, "channels"), n, rows, height * width)
            by_channel = self._reshaped(self.get(value, "rows"), rows, n, height * width)
            return self.layers.add("Permute", [by_channel], {0: _SWAP_CH})
        if form == "channels":
            if "matrix" in have:
                return self._reshaped(self.get(value, "matrix"), n * rows, height, width)
            return self._concat(self.layers.slice(self.get(value, "rows"), [height] * n, _H), _C)
        if "channels" in have:
            return self._concat(self.layers.slice(self.get(value, "channels"), [rows] * n, _C), _H)
        by_channel = self.layers.add("Permute", [self.get(value, "matrix")], {0: _SWAP_CH})
        return self._reshaped(by_channel, rows, n * height, width)

    def _reshaped(self, blob: str, *shape: int) -> str:
        return self.layers.add("Reshape", [blob], dict(enumerate(reversed(shape))))

    def _concat(self, blobs: Sequence[str], axis: int) -> str:
        return self.layers.add("Concat", blobs, {0: axis}) if len(blobs) > 1 else blobs[0]

    def _made(self, shape: tuple[int, ...], **blobs: str) -> _Value:
        return _Value(shape, {}, dict(blobs))  # type: ignore[arg-type]

    def give(self, name: str, **blobs: str) -> None:
        """The value called `name` in the graph is these blobs, one a form."""
        if self.shapes[name][0] == 1 and "rows" in blobs:
            blobs["channels"] = blobs.pop("rows")
        self.values[name] = self._made(self.shapes[name], **blobs)

    def give_later(self, name: str, **makers: Callable[[], str]) -> None:
        """The value called `name` is made by one of these, when a form of it is asked for."""
        self.values[name] = _Value(self.shapes[name], dict(makers))  # type: ignore[arg-type]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads `name`, if it is one and the value is not the output too."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name != self.sink else None

    def with_activation(self, name: str) -> tuple[dict[int, Any], str]:
        """What a layer needs to do the activation that follows, and the value it then gives."""
        reader = self.only_reader(name)
        if reader is None or reader.op_type not in _ACTIVATIONS:
            return {}, name
        self.fused.add(reader.name)
        return {9: _ACTIVATIONS[reader.op_type]}, reader.output[0]


# --- one rule an ONNX node ---------------------------------------------------------------------

Attributes = dict[str, Any]


def _conv(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x, weight = to.values[node.input[0]], to.constants[node.input[1]]
    biases = [to.constants[name] for name in node.input[2:]]
    (n, channels, *_), out = x.shape, weight.shape[0]
    groups = given["group"]
    activation, result = to.with_activation(node.output[0])
    pads, kernel = given["pads"], weight.shape[2:]
    if groups == 1 and x.shape[2:] == (1, 1) and kernel == (1, 1) and n == 1:
        parameters = {0: out, 1: len(biases), 2: weight.size, **activation}
        blob = to.layers.add(
            "InnerProduct", [to.get(x, "channels")], parameters, weights=[weight, *biases], tagged=True
        )
        to.give(result, channels=blob)
        return
    depthwise = groups == channels == out
    pointwise = groups == 1 and kernel == (1, 1) and given["strides"] == [1, 1]
    form: Form = "channels"
    if n > 1:
        if depthwise:
            weight, biases = np.tile(weight, (n, 1, 1, 1)), [np.tile(bias, n) for bias in biases]
            groups, out = n * groups, n * out
        elif pointwise:
            form = "rows"
        else:
            raise UsageError("ncnn: a convolution within windows must be 1x1 or depthwise")
    parameters = {
        0: out,
        1: kernel[1],
        11: kernel[0],
        2: given["dilations"][1],
        12: given["dilations"][0],
        3: given["strides"][1],
        13: given["strides"][0],
        4: pads[1],
        14: pads[0],
        15: pads[3],
        16: pads[2],
        5: len(biases),
        6: weight.size,
        **activation,
    }
    if groups > 1:
        parameters[7] = groups
    kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
    blob = to.layers.add(kind, [to.get(x, form)], parameters, weights=[weight, *biases], tagged=True)
    to.give(result, **{form: blob})


def _gemm(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    weight, bias = (to.constants[name] for name in node.input[1:])
    activation, result = to.with_activation(node.output[0])
    parameters = {0: weight.shape[0], 1: 1, 2: weight.size, **activation}
    x = to.get(to.values[node.input[0]], "channels")
    to.give(
        result, channels=to.layers.add("InnerProduct", [x], parameters, weights=[weight, bias], tagged=True)
    )


def _elementwise(kind: str, **parameters: int) -> Callable[..., None]:
    def rule(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
        x = to.values[node.input[0]]
        form = _natural_form(x)
        layer = {int(key[1:]): value for key, value in parameters.items()}
        to.give(node.output[0], **{form: to.layers.add(kind, [to.get(x, form)], layer)})

    return rule


def _natural_form(*values: _Value) -> Form:
    """The form in which element-wise work on these costs no conversion, if there is one."""
    if len(values[0].shape) == 3:
        return "matrix"
    if values[0].shape[0] == 1:
        return "channels"
    forms: tuple[Form, ...] = ("rows", "channels", "matrix")
    for form in forms:
        if all(form in value.blobs or form in value.makers for value in values):
            return form
    return "rows"


def _binary(operation: int) -> Callable[..., None]:
    def rule(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
        constant = to.constants.get(node.input[1])
        if constant is None:
            values = [to.values[name] for name in node.input]
            form = _natural_form(*values)
            blobs = [to.get(value, form) for value in values]
            to.give(node.output[0], **{form: to.layers.add("BinaryOp", blobs, {0: operation})})
            return
        x = to.values[node.input[0]]
        form = _natural_form(x)
        blob = to.get(x, form)
        if constant.size == 1:
            parameters = {0: operation, 1: _SCALAR, 2: float(constant.reshape(()))}
            to.give(node.output[0], **{form: to.layers.add("BinaryOp", [blob], parameters)})
        elif constant.ndim == 2:  # added to the scores of every window
            height, width = constant.shape
            sides = {0: width, 1: height} if x.shape[0] == 1 else {0: width, 1: height, 2: 1}
            table = to.layers.add("MemoryData", [], sides, weights=[constant])
            to.give(node.output[0], **{form: to.layers.add("BinaryOp", [blob, table], {0: operation})})
        else:
            _per_channel(to, node, constant)

    return rule


def _per_channel(to: _Lowering, node: onnx.NodeProto, constant: Array) -> None:
    """Affine: a factor for every channel, and the shift that follows it."""
    x, result = to.values[node.input[0]], node.output[0]
    reader = to.only_reader(result)
    if node.op_type != "Mul" or reader is None or reader.op_type != "Add" or x.shape[0] != 1:
        raise UsageError("ncnn: numbers per channel are exported as a product followed by a sum")
    shift = to.constants[reader.input[1]]
    if not constant.shape == shift.shape == (x.shape[1], 1, 1):
        raise UsageError(f"ncnn: factors and shifts must be of shape (C, 1, 1), got {constant.shape}")
    to.fused.add(reader.name)
    parameters = {0: x.shape[1], 1: 1}
    blob = to.layers.add("Scale", [to.get(x, "channels")], parameters, weights=[constant, shift])
    to.give(reader.output[0], channels=blob)


def _layer_norm(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    """Over a whole image with a factor per channel, that is GroupNorm of one group."""
    x = to.values[node.input[0]]
    scale, shift = (to.constants[name] for name in node.input[1:])
    per_channel = [value.reshape(value.shape[0], -1) for value in (scale, shift)]
    if given["axis"] != 1 or x.shape[0] != 1 or any((value != value[:, :1]).any() for value in per_channel):
        raise UsageError("ncnn: LayerNormalization is exported for GroupNorm with one group only")
    parameters = {0: 1, 1: x.shape[1], 2: float(given["epsilon"]), 3: 1}
    weights = [value[:, 0] for value in per_channel]
    blob = to.layers.add("GroupNorm", [to.get(x, "channels")], parameters, weights=weights)
    to.give(node.output[0], channels=blob)


def _softmax(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x = to.values[node.input[0]]
    if given["axis"] not in (-1, len(x.shape) - 1):
        raise UsageError(f"ncnn: softmax is exported over the last axis, got axis {given['axis']}")
    form = _natural_form(x)
    last = _H if len(x.shape) == 3 and x.shape[0] == 1 else _W  # a plain matrix has two axes
    to.give(node.output[0], **{form: to.layers.add("Softmax", [to.get(x, form)], {0: last, 1: 1})})


def _matmul(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    a, b = (to.values[name] for name in node.input)
    turned = "transposed" in b.blobs or "transposed" in b.makers
    second = to.get(b, "transposed" if turned else "matrix")
    parameters = {0: 1} if turned else {}
    to.give(node.output[0], matrix=to.layers.add("MatMul", [to.get(a, "matrix"), second], parameters))


def _reshape(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    """Only between a map and its matrix, and from one pixel to a vector; see `_Value`."""
    x, result = to.values[node.input[0]], node.output[0]
    old, new = x.shape, to.shapes[result]
    if new == old[:2] and set(old[2:]) == {1}:
        to.give(result, channels=to.get(x, "channels"))
    elif old[:2] == new[:2] and {len(old), len(new)} == {3, 4}:
        to.give_later(result, matrix=lambda: to.get(x, "matrix"))
    else:
        raise UsageError(f"ncnn: a reshape goes from a map to its matrix or back, got {old} -> {new}")


def _transpose(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x, order = to.values[node.input[0]], list(given["perm"])
    if order == [0, 2, 1]:
        to.give_later(node.output[0], transposed=lambda: to.get(x, "matrix"))
    elif order == [0, 1, 3, 2] and x.shape[0] == 1:
        blob = to.layers.add("Permute", [to.get(x, "channels")], {0: _SWAP_HW})
        to.give(node.output[0], channels=blob)
    else:
        raise UsageError(f"ncnn: a transposition swaps the last two axes, got {order}")


def _split(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x, axis = to.values[node.input[0]], given["axis"]
    sizes = [to.shapes[name][axis] for name in node.output]
    if axis == 0:  # windows, each of them a map
        parts = to.layers.slice(to.get(x, "rows"), [size * x.shape[2] for size in sizes], _H)
    elif axis == 1 or x.shape[0] == 1:
        parts = to.layers.slice(to.get(x, "rows"), sizes, axis - 1)
    else:
        raise UsageError("ncnn: windows are not split again")
    for name, part in zip(node.output, parts, strict=True):
        to.give(name, rows=part)


def _concat(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    parts, axis, result = [to.values[name] for name in node.input], given["axis"], node.output[0]

    def joined(form: Form, along: int) -> Callable[[], str]:
        return lambda: to._concat([to.get(part, form) for part in parts], along)

    windows = to.shapes[result][0]
    if axis == 0 and all(part.shape[0] == 1 for part in parts):
        to.give_later(result, rows=joined("channels", _H), channels=joined("channels", _C))
    elif windows == 1:
        to.give(result, channels=joined("channels", axis - 1)())
    elif axis == 1 and _natural_form(*parts) == "rows":
        to.give(result, rows=joined("rows", _C)())
    elif axis == 1:
        to.give_later(result, matrix=joined("matrix", _H))
    else:
        raise UsageError(f"ncnn: windows are joined along the channels only, got axis {axis}")


def _pad(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x, pads = to.values[node.input[0]], to.constants[node.input[1]].tolist()
    if x.shape[0] != 1 or any(pads[:2] + pads[4:6]):
        raise UsageError("ncnn: only the height and the width of one map are padded")
    parameters = {0: pads[2], 1: pads[6], 2: pads[3], 3: pads[7], 4: 0, 5: 0.0}
    to.give(node.output[0], channels=to.layers.add("Padding", [to.get(x, "channels")], parameters))


def _slice(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    x = to.values[node.input[0]]
    starts, stops, axes = (to.constants[name].tolist() for name in node.input[1:4])
    if x.shape[0] != 1 or 0 in axes:
        raise UsageError("ncnn: only one map is cropped")
    parameters = {9: starts, 10: stops, 11: [axis - 1 for axis in axes]}
    to.give(node.output[0], channels=to.layers.add("Crop", [to.get(x, "channels")], parameters))


def _max_pool(to: _Lowering, node: onnx.NodeProto, given: Attributes) -> None:
    (kernel_h, kernel_w), (stride_h, stride_w) = given["kernel_shape"], given["strides"]
    top, left, bottom, right = given["pads"]
    parameters = {
        0: 0,
        1: kernel_w,
        11: kernel_h,
        2: stride_w,
        12: stride_h,
        3: left,
        13: top,
        14: right,
        15: bottom,
        5: 1,
    }
    x = to.get(to.values[node.input[0]], "channels")
    to.give(node.output[0], channels=to.layers.add("Pooling", [x], parameters))


_RULES: dict[str, Callable[..., None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Relu": _elementwise("ReLU"),
    "Sigmoid": _elementwise("Sigmoid"),
    "Gelu": _elementwise("GELU"),
    "Add": _binary(0),
    "Mul": _binary(2),
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Split": _split,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _elementwise("Pooling", _0=1, _4=1),
}
