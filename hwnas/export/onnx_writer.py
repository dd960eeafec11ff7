"""Writes down a forward pass as an ONNX graph: a node for every torch function that it calls.

torch ships an exporter, which this replaces for networks of known parts. One module takes it
milliseconds where `torch.onnx.export` takes seconds, it writes the same nodes for an op alone as
for the op inside a network (a latency table rests on that), and nothing of the machine it ran on
gets into the file. What it can't write it refuses: see `_RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import hwnas
from hwnas.errors import UsageError

__all__ = ["MAX_OPSET", "MIN_OPSET", "record"]

MIN_OPSET = 17  # LayerNormalization is a node since then
MAX_OPSET = 21  # the newest that the rules below were checked against


def record(
    module: nn.Module,
    example: Tensor,
    *,
    input_name: str,
    output_name: str | Sequence[str],
    places: Mapping[str, str] | None = None,
    dynamic_batch: bool = False,
    opset: int = MIN_OPSET,
) -> tuple[onnx.ModelProto, Any]:
    """The ONNX model of what `module` does with `example`, and what it gave: a tensor, or one for each
    name where `output_name` is several.

    `places` maps submodules to the names that their nodes start with; nodes are called
    `<place>/<type>_<number>`. With `dynamic_batch` the first dimension is free. Raises UsageError
    for a torch function that there is no rule for, and for an opset that the rules don't know.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise UsageError(f"opset must be from {MIN_OPSET} to {MAX_OPSET}, got {opset}")
    tape = _Tape(opset)
    for name, weight in [*module.named_parameters(), *module.named_buffers()]:
        tape.weight_names[id(weight)] = name
    tape.names[id(example)] = input_name
    hooks = [
        module.get_submodule(name).register_forward_pre_hook(tape.enter(place))
        for name, place in (places or {}).items()
    ]
    try:
        with torch.no_grad(), tape:
            output = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    batch = "batch" if dynamic_batch else example.shape[0]
    single = isinstance(output_name, str)
    names = [output_name] if isinstance(output_name, str) else list(output_name)
    outputs = list(zip(names, [output] if single else output, strict=True))
    for name, tensor in outputs:
        tape.rename(tensor, name)
    graph = helper.make_graph(
        tape.nodes,
        "hwnas",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, *example.shape[1:]])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *tensor.shape[1:]])
            for name, tensor in outputs
        ],
        list(tape.constants.values()),
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph,
        producer_name="hwnas",
        producer_version=hwnas.__version__,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
    )
    return model, output


class _Tape(TorchFunctionMode):
    """Listens to torch while it is on, and notes a node for every call that depends on the input."""

    def __init__(self, opset: int) -> None:
        super().__init__()
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.names: dict[int, str] = {}  # id of a tensor that depends on the input -> its name
        self.weight_names: dict[int, str] = {}
        self._alive: list[Any] = []  # an id is unique only while its tensor lives
        self._place = ""
        self._counts: dict[str, int] = {}

    def enter(self, place: str) -> Callable[..., None]:
        """A hook: from here on, nodes belong to `place`."""

        def hook(*_: Any) -> None:
            self._place = place

        return hook

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._alive.append((args, result))
        name = getattr(func, "__name__", str(func))
        if name not in _NO_NODE and self._depends(args):
            if name not in _RULES:
                raise UsageError(
                    f"no ONNX rule for torch's '{name}' (in {self._place or 'the network'}): add one to "
                    f"hwnas/export/onnx_writer.py. There are rules for {', '.join(_RULES)}"
                )
            _RULES[name](self, result, *args, **kwargs)
        return result

    def _depends(self, args: Sequence[Any]) -> bool:
        return any(
            id(arg) in self.names if isinstance(arg, Tensor) else self._depends(arg)
            for arg in args
            if isinstance(arg, Tensor | list | tuple)
        )

    def node(self, kind: str, results: Any, *inputs: Any, **attributes: Any) -> None:
        """A node from `inputs` (tensors, arrays or names) to `results` (one tensor, or several)."""
        results = [results] if isinstance(results, Tensor) else list(results)
        name = self._fresh(kind)
        outputs = [name if index == 0 else f"{name}.{index}" for index in range(len(results))]
        sources = [self.name(value) for value in inputs]  # first: a result in place is its own input
        self.names.update((id(result), output) for result, output in zip(results, outputs, strict=True))
        self.nodes.append(helper.make_node(kind, sources, outputs, name=name, **attributes))

    def same(self, result: Tensor, x: Tensor) -> None:
        """No node: the result is `x`."""
        self.names[id(result)] = self.names[id(x)]

    def temporary(self, kind: str, like: Tensor, *inputs: Any, **attributes: Any) -> Tensor:
        """A node whose output torch never made, as a step of a decomposed function."""
        result = torch.empty(0, dtype=like.dtype)
        self._alive.append(result)
        self.node(kind, result, *inputs, **attributes)
        return result

    def name(self, value: Any) -> str:
        """The name of a value; constants are stored on the way."""
        if isinstance(value, str):
            return value
        if isinstance(value, Tensor) and id(value) in self.names:
            return self.names[id(value)]
        if isinstance(value, int | float):
            value = np.array(value, np.float32)
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        if id(value) in self.weight_names:
            name = self.weight_names[id(value)]
        elif array.dtype == np.int64 or array.ndim == 0:  # shapes and numbers: one for each value
            digits = "_".join(str(number).replace("-", "minus") for number in array.reshape(-1).tolist())
            name = f"{array.dtype}_{digits}"
            if array.ndim == 0 and self._place:  # not shared between ops: one may quantise it, another not
                name = f"{self._place}/{name}"
        else:
            name = self._fresh("constant")
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def rename(self, result: Tensor, name: str) -> None:
        """Gives the last value its name in the interface."""
        old = self.names[id(result)]
        for node in self.nodes:
            for values in (node.input, node.output):
                for index, value in enumerate(values):
                    if value == old:
                        values[index] = name

    def _fresh(self, kind: str) -> str:
        stem = f"{self._place}/{kind}" if self._place else kind
        number = self._counts.get(stem, 0)
        self._counts[stem] = number + 1
        return f"{stem}_{number}"


# --- one rule a torch function, with that function's signature ---------------------------------


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _int64(values: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def _conv2d(
    tape: _Tape,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    inputs = (x, weight) if bias is None else (x, weight, bias)
    tape.node(
        "Conv",
        y,
        *inputs,
        kernel_shape=list(weight.shape[2:]),
        strides=_pair(stride),
        pads=_pair(padding) * 2,
        dilations=_pair(dilation),
        group=groups,
    )


def _conv1d(
    tape: _Tape,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> None:
    """A 1x1 convolution on (B, C, N)."""
    if (*weight.shape[2:], *stride, *padding, *dilation, groups) != (1, 1, 0, 1, 1):
        raise UsageError(f"a one-dimensional convolution is exported of kernel 1 only, got {weight.shape}")
    tape.node("Conv", y, x, weight, bias, kernel_shape=[1])


def _linear(tape: _Tape, y: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    tape.node("Gemm", y, x, weight, bias, transB=1)


def _batch_norm(tape: _Tape, y: Tensor, *args: Any, **kwargs: Any) -> None:
    raise UsageError("a network is exported without BatchNorm: fold(network) first")


def _group_norm(
    tape: _Tape, y: Tensor, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
) -> None:
    if groups != 1:
        _grouped_norm(tape, y, x, groups, weight, bias, eps)
        return
    scale, shift = (value.view(-1, 1, 1).expand(x.shape[1:]) for value in (weight, bias))
    tape.node("LayerNormalization", y, x, scale, shift, axis=1, epsilon=eps)


def _grouped_norm(
    tape: _Tape, y: Tensor, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
) -> None:
    """Several groups: each is normalised as an instance, then scaled channel by channel."""
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    cut = tape.temporary("Reshape", x, x, _int64([0, groups, -1]))
    even = tape.temporary("InstanceNormalization", x, cut, ones, zeros, epsilon=eps)
    whole = tape.temporary("Reshape", x, even, _int64([0, *x.shape[1:]]))
    scale, shift = (value.view(-1, 1, 1) for value in (weight, bias))
    tape.node("Add", y, tape.temporary("Mul", x, whole, scale), shift)


def _interpolate(
    tape: _Tape, y: Tensor, x: Tensor, size: Any = None, mode: str = "nearest", **options: Any
) -> None:
    """To a size that is given; options that do nothing then are not looked at."""
    ways = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"coordinate_transformation_mode": "half_pixel"},
    }
    if mode not in ways or size is None or options.get("antialias") or options.get("align_corners"):
        raise UsageError(f"interpolation is exported to a size, nearest or bilinear, got {mode}, {size}")
    kind = "nearest" if mode == "nearest" else "linear"
    tape.node("Resize", y, x, "", "", _int64(y.shape), mode=kind, **ways[mode])


def _permute(tape: _Tape, y: Tensor, x: Tensor, *order: int) -> None:
    tape.node("Transpose", y, x, perm=list(order))


def _activation(kind: str) -> Callable[..., None]:
    def rule(tape: _Tape, y: Tensor, x: Tensor, inplace: bool = False) -> None:
        tape.node(kind, y, x)

    return rule


def _gelu(tape: _Tape, y: Tensor, x: Tensor, approximate: str = "none") -> None:
    if approximate != "none":
        raise UsageError(f"GELU is exported exact, got approximate='{approximate}'")
    if tape.opset >= 20:
        tape.node("Gelu", y, x)
        return
    erf = tape.temporary("Erf", x, tape.temporary("Div", x, x, 2**0.5))
    tape.node("Mul", y, tape.temporary("Mul", x, x, tape.temporary("Add", x, erf, 1.0)), 0.5)


def _softmax(tape: _Tape, y: Tensor, x: Tensor, dim: int) -> None:
    tape.node("Softmax", y, x, axis=dim)


def _binary(kind: str) -> Callable[..., None]:
    def rule(tape: _Tape, y: Tensor, a: Any, b: Any) -> None:
        if kind == "Mul" and isinstance(b, float) and b == 1.0:
            tape.same(y, a)
        else:
            tape.node(kind, y, a, b)

    return rule


def _flatten(tape: _Tape, y: Tensor, x: Tensor, start_dim: int = 0) -> None:
    _reshape(tape, y, x, y.shape)


def _reshape(tape: _Tape, y: Tensor, x: Tensor, *shape: Any) -> None:
    """The first dimension holds the batch: it is kept (0 in ONNX), or given as -1."""
    wanted = list(shape[0]) if not isinstance(shape[0], int) else list(shape)
    if wanted[0] != -1:
        if wanted[0] != x.shape[0]:
            raise UsageError("a reshape must keep the first dimension or give it as -1: it holds the batch")
        wanted = [0, *y.shape[1:]]
    tape.node("Reshape", y, x, _int64(wanted))


def _transpose(tape: _Tape, y: Tensor, x: Tensor, a: int, b: int) -> None:
    order = list(range(x.ndim))
    order[a], order[b] = order[b], order[a]
    tape.node("Transpose", y, x, perm=order)


def _split(tape: _Tape, parts: Sequence[Tensor], x: Tensor, sizes: Any, dim: int = 0) -> None:
    tape.node("Split", parts, x, _int64([part.shape[dim] for part in parts]), axis=dim)


def _chunk(tape: _Tape, parts: Sequence[Tensor], x: Tensor, chunks: int, dim: int = 0) -> None:
    """Equal parts, of a size that may be free."""
    if x.shape[dim] % chunks:
        raise UsageError(f"chunks must be equal to be exported, got {x.shape[dim]} cut into {chunks}")
    tape.node("Split", parts, x, axis=dim, **({"num_outputs": chunks} if tape.opset >= 18 else {}))


def _cat(tape: _Tape, y: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    tape.node("Concat", y, *parts, axis=dim)


def _pad(
    tape: _Tape, y: Tensor, x: Tensor, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> None:
    if mode != "constant" or value:
        raise UsageError("padding is exported with zeros only")
    before, after = list(pad[0::2])[::-1], list(pad[1::2])[::-1]
    untouched = [0] * (x.ndim - len(before))
    tape.node("Pad", y, x, _int64([*untouched, *before, *untouched, *after]))


def _getitem(tape: _Tape, y: Tensor, x: Tensor, index: tuple[slice, ...]) -> None:
    """Crops: slices of step 1."""
    cut = [(axis, part) for axis, part in enumerate(index) if part != slice(None)]
    if any(not isinstance(part, slice) or part.step not in (None, 1) for _, part in cut):
        raise UsageError(f"indexing is exported for plain slices only, got {index}")
    starts = [part.start or 0 for _, part in cut]
    tape.node("Slice", y, x, _int64(starts), _int64([p.stop for _, p in cut]), _int64([a for a, _ in cut]))


def _max_pool2d(
    tape: _Tape, y: Tensor, x: Tensor, kernel_size: Any, stride: Any, padding: Any = 0, **_: Any
) -> None:
    tape.node(
        "MaxPool", y, x, kernel_shape=_pair(kernel_size), strides=_pair(stride), pads=_pair(padding) * 2
    )


def _adaptive_avg_pool2d(tape: _Tape, y: Tensor, x: Tensor, output_size: Any) -> None:
    if output_size not in (1, (1, 1)):
        raise UsageError(f"average pooling is exported over the whole map only, got {output_size}")
    tape.node("GlobalAveragePool", y, x)


_NO_NODE = frozenset({"__get__", "dim", "size", "numel"})

_RULES: dict[str, Callable[..., None]] = {
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "interpolate": _interpolate,
    "permute": _permute,
    "relu": _activation("Relu"),
    "sigmoid": _activation("Sigmoid"),
    "gelu": _gelu,
    "softmax": _softmax,
    "add": _binary("Add"),
    "mul": _binary("Mul"),
    "matmul": _binary("MatMul"),
    "flatten": _flatten,
    "reshape": _reshape,
    "transpose": _transpose,
    "split": _split,
    "chunk": _chunk,
    "cat": _cat,
    "pad": _pad,
    "__getitem__": _getitem,
    "max_pool2d": _max_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
}
