"""Op kinds: the graph nodes that one op of each kind runs, from its settings.

A kind is a function that traces its nodes over the shape of the feature map. What a network is made of is
in `hwnas.space.ops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["KINDS", "OpBody", "Primitive", "Setting", "Shape", "op_body", "squeezed_channels"]

Setting = int | str | bool | tuple[int, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Primitive:
    """One node of the reference graph."""

    kind: str
    """`pointwise`, `depthwise`, `conv`, `linear`, `matmul` have MACs; the rest (`add`, `mul`,
    `relu`, `gelu`, `sigmoid`, `softmax`, `norm`, `pool`, `split`, `slice`, `concat`, `transpose`,
    `pad`) move data; `reshape` only renames it. `gelu` is one node, though an export below opset 20
    spells it out in five, which runtimes merge again."""
    shape: Shape
    """Output shape for one image; windows count as a batch: (windows, C, H, W). For several outputs
    (`split`), the shape of all of them together."""
    reads: int
    """Activation elements read."""
    macs: int = 0
    params: int = 0
    """Learnable parameters, BatchNorm's scale and shift included."""
    weights: int = 0
    """Elements of the constants it reads once BatchNorm is folded."""
    fused: bool = False
    """Whether runtimes merge it into the node before it, as ReLU into a convolution."""

    @property
    def writes(self) -> int:
        """Activation elements written."""
        return math.prod(self.shape)

    @property
    def works(self) -> bool:
        """Whether it takes a runtime any work: what is fused or only renames a shape doesn't."""
        return not self.fused and self.kind != "reshape"


class Trace:
    """The nodes of one op, in order; knows the shape of the feature map it has reached."""

    def __init__(self, shape: Shape) -> None:
        self.shape: Shape = shape  # (windows, C, H, W); windows is 1 for the whole map
        self.primitives: list[Primitive] = []

    def node(
        self,
        kind: str,
        shape: Shape | None = None,
        *,
        reads: int | None = None,
        macs: int = 0,
        params: int = 0,
        weights: int = 0,
        fused: bool = False,
    ) -> None:
        """A node; by default it reads the current map and keeps its shape."""
        reads = math.prod(self.shape) if reads is None else reads
        shape = self.shape if shape is None else shape
        self.primitives.append(Primitive(kind, shape, reads, macs, params, weights, fused))
        self.shape = shape

    def conv(
        self, out: int, kernel: int, *, stride: int = 1, groups: int = 1, bn: bool = True, bias: bool = False,
        padded: bool = True,
    ) -> None:  # fmt: skip
        """A convolution; BatchNorm, where there is one, is folded into it."""
        windows, channels, height, width = self.shape
        margin = kernel - 1 if padded and kernel > 1 else 0
        height, width = ((n + margin - kernel) // stride + 1 for n in (height, width))
        weights = out * (channels // groups) * kernel * kernel
        shape = (windows, out, height, width)
        # A depthwise convolution of one channel is still depthwise; of several groups, "conv".
        kind = "depthwise" if groups == channels else "pointwise" if kernel == 1 and groups == 1 else "conv"
        self.node(
            kind,
            shape,
            macs=math.prod(shape) * (channels // groups) * kernel * kernel,
            params=weights + (out if bias else 0) + (2 * out if bn else 0),
            weights=weights + (out if bias or bn else 0),
        )

    def relu(self) -> None:
        self.node("relu", fused=self.primitives[-1].macs > 0)

    def residual(self) -> None:
        """The sum with another map of the same shape."""
        self.node("add", reads=2 * math.prod(self.shape))

    def affine(self) -> None:
        """A BatchNorm that stands behind no convolution: what is left of it is a scale and a shift."""
        for kind in ("mul", "add"):
            self.node(kind, params=self.shape[1], weights=self.shape[1])

    def max_pool(self) -> None:
        """3x3, stride 2, padding 1."""
        windows, channels, height, width = self.shape
        self.node("pool", (windows, channels, (height - 1) // 2 + 1, (width - 1) // 2 + 1))

    def attend(self, *, queries: int, keys: int, values: int, bias_rows: int) -> None:
        """softmax(Q^T K + bias), then V A^T, within each window.

        `queries` and `keys` are the channels of Q and K, `values` those of V; `bias_rows` is how
        many tables of |drow|, |dcol| biases are learnt for it (0: no bias).
        """
        windows, _, height, width = self.shape
        tokens = height * width
        scores = (windows, tokens, tokens)
        self.node("reshape", (windows, queries, tokens))
        self.node("transpose", (windows, tokens, queries))
        self.node("reshape", (windows, keys, tokens))
        self.node(
            "matmul", scores, reads=windows * tokens * (queries + keys), macs=math.prod(scores) * queries
        )
        if bias_rows:
            self.node("add", scores, params=bias_rows * tokens, weights=tokens * tokens)
        self.node("softmax", scores)
        self.node("transpose", scores)
        mixed = (windows, values, tokens)
        self.node("reshape", mixed)
        self.node(
            "matmul",
            mixed,
            reads=math.prod(scores) + math.prod(mixed),
            macs=math.prod(mixed) * tokens,
        )
        self.node("reshape", (windows, values, height, width))

    def into_windows(self, window: int) -> int:
        """Pads and cuts the map into windows, by rows first; returns the side that was there before."""
        _, channels, side, _ = self.shape
        if side > window:
            count = math.ceil(side / window)
            padded = count * window
            if padded != side:
                self.node("pad", (1, channels, padded, padded))
            self.node("split")
            for _ in range(count):
                self.shape = (1, channels, window, padded)
                self.node("split")
            windows = (count * count, channels, window, window)
            self.node("concat", windows, reads=math.prod(windows))
        return side

    def out_of_windows(self, side: int) -> None:
        """Undoes `into_windows`."""
        windows, channels, window, _ = self.shape
        if side > window:
            count = math.isqrt(windows)
            padded = count * window
            self.node("split")
            for _ in range(count):
                row = (1, channels, window, padded)
                self.node("concat", row, reads=math.prod(row))
            whole = (1, channels, padded, padded)
            self.node("concat", whole, reads=math.prod(whole))
            if padded != side:
                self.node("slice", (1, channels, side, side))

    def split(self) -> None:
        """Cuts the map along the channels; the shape stays that of the whole."""
        self.node("split")

    def concat(self, channels: int) -> None:
        windows, _, height, width = self.shape
        shape = (windows, channels, height, width)
        self.node("concat", shape, reads=math.prod(shape))

    def select(self, channels: int) -> None:
        """Goes on with so many channels of what was split; no node."""
        self.shape = (self.shape[0], channels, *self.shape[2:])


def _stem(*, c: int, resolution: int, stride: int) -> Trace:
    trace = Trace((1, 3, resolution, resolution))
    halvings = stride.bit_length() - 1
    for index in range(halvings):
        if index:
            trace.relu()
        trace.conv(c >> (halvings - 1 - index), 3, stride=2)
    return trace


def _dw(*, c: int, side: int) -> Trace:
    trace = Trace((1, c, side, side))
    trace.conv(c, 3, groups=c)
    trace.residual()
    return trace


def _ffn(*, c: int, side: int, hidden: int) -> Trace:
    trace = Trace((1, c, side, side))
    trace.conv(hidden, 1)
    trace.relu()
    trace.conv(c, 1)
    trace.residual()
    return trace


def _merge(*, c: int, out: int, side: int) -> Trace:
    trace = Trace((1, c, side, side))
    hidden = 4 * c
    trace.conv(hidden, 1)
    trace.relu()
    trace.conv(hidden, 3, stride=2, groups=hidden)
    trace.relu()
    _squeeze_excite(trace)
    trace.conv(out, 1)
    return trace


def _squeeze_excite(trace: Trace) -> None:
    whole = trace.shape
    channels = whole[1]
    trace.node("pool", (1, channels, 1, 1))
    trace.conv(squeezed_channels(channels), 1, bn=False, bias=True)
    trace.relu()
    trace.conv(channels, 1, bn=False, bias=True)
    trace.node("sigmoid")
    trace.node("mul", whole, reads=math.prod(whole) + channels)


def squeezed_channels(channels: int) -> int:
    """A quarter, to the nearest multiple of 8, but never below 0.9 of it (timm's SE rule)."""
    wanted = channels / 4
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _check_kernels(heads: int, kernels: tuple[int, ...]) -> None:
    """For ops read from a key; an architecture has been checked before."""
    if len(kernels) != heads:
        raise ValueError(f"kernels must be one per head, got {len(kernels)} for heads={heads}")


def _reuse(
    *, c: int, side: int, heads: int, kernels: tuple[int, ...], query_kernel: int = 7, window: int = 7,
    variant: str = "released",
) -> Trace:  # fmt: skip
    """UniForm. `paper`: equations 1 to 5 as printed - Q, K of full width, a W^V, no bias, no projection."""
    _check_kernels(heads, kernels)
    literal = variant == "paper"
    qk = c if literal else c // 4
    trace = Trace((1, c, side, side))
    whole = trace.into_windows(window)
    trace.conv(2 * qk, 1)  # Q and K
    trace.split()
    if not literal:
        trace.select(qk)
        trace.conv(qk, query_kernel, groups=qk)
    trace.select(c)
    if literal:
        trace.conv(c, 1)  # W^V
    trace.split()
    for kernel in kernels:
        trace.select(c // heads)
        trace.conv(c // heads, kernel, groups=c // heads, bn=False, bias=True)
    trace.concat(c)
    trace.attend(queries=qk, keys=qk, values=c, bias_rows=0 if literal else heads)
    if not literal:
        trace.relu()
        trace.conv(c, 1)
    trace.out_of_windows(whole)
    trace.residual()
    return trace


def _cascaded_group(
    *, c: int, side: int, heads: int, kernels: tuple[int, ...], key_dim: int = 16, window: int = 7
) -> Trace:
    _check_kernels(heads, kernels)
    d = c // heads
    trace = Trace((1, c, side, side))
    whole = trace.into_windows(window)
    trace.split()
    for index, kernel in enumerate(kernels):
        trace.select(d)
        if index:
            trace.residual()  # what the head before gave
        trace.conv(2 * key_dim + d, 1)
        trace.split()
        trace.select(key_dim)
        trace.conv(key_dim, kernel, groups=key_dim)
        trace.attend(queries=key_dim, keys=key_dim, values=d, bias_rows=1)
    trace.concat(c)
    trace.relu()
    trace.conv(c, 1)
    trace.out_of_windows(whole)
    trace.residual()
    return trace


def _single_head(*, c: int, side: int, channels: int, key_dim: int = 16) -> Trace:
    trace = Trace((1, c, side, side))
    trace.split()
    trace.select(channels)
    trace.node("norm", params=2 * channels, weights=2 * channels)
    trace.conv(2 * key_dim + channels, 1)
    trace.split()
    trace.attend(queries=key_dim, keys=key_dim, values=channels, bias_rows=0)
    trace.concat(c)
    trace.relu()
    trace.conv(c, 1)
    trace.residual()
    return trace


def _element_wise(
    *, c: int, side: int, projections: str = "depthwise", output: str = "pointwise", softmax: str = "width",
    swap_key: bool = True, gate: bool = True, scale_channels_over: int = 1,
) -> Trace:  # fmt: skip
    trace = Trace((1, c, side, side))
    elements = c * side * side
    if projections == "dense":
        trace.conv(3 * c, 3)
        trace.split()
        trace.select(c)
    else:
        for _ in range(3):
            trace.conv(c, 3, groups=c)
    if swap_key:
        trace.node("transpose")
    trace.node("mul", reads=2 * elements)  # 1 / sqrt(C) is folded into Q
    if softmax == "tokens":
        trace.node("reshape", (1, c, side * side))
    trace.node("softmax")
    if softmax == "tokens":
        trace.node("reshape", (1, c, side, side))
    trace.node("mul", reads=2 * elements, params=1 if gate else 0)  # alpha is folded into V
    if output == "pointwise":
        trace.relu()
        trace.conv(c, 1)
    elif output == "dense":
        trace.conv(c, 3, bn=False)
        trace.node("gelu")
        trace.affine()
    trace.residual()
    return trace


def _conv_pool_stem(*, c: int, resolution: int) -> Trace:
    trace = Trace((1, 3, resolution, resolution))
    for out in (c // 2, c):
        trace.conv(out, 3, bias=True)
        trace.relu()
        trace.max_pool()
    return trace


def _conv_pool(*, c: int, out: int, side: int) -> Trace:
    trace = Trace((1, c, side, side))
    trace.conv(out, 3, bn=False, bias=True, padded=False)
    trace.max_pool()
    trace.affine()
    return trace


def _conv_ffn(*, c: int, side: int, hidden: int) -> Trace:
    trace = Trace((1, c, side, side))
    trace.conv(c, 3, groups=c, bias=True)
    trace.conv(hidden, 1, bn=False, bias=True)
    trace.node("gelu")
    trace.conv(c, 1, bn=False, bias=True)
    trace.residual()
    return trace


def _pooled(trace: Trace) -> None:
    channels = trace.shape[1]
    trace.node("pool", (1, channels, 1, 1))
    trace.node("reshape", (1, channels))


def _head(*, c: int, side: int, classes: int) -> Trace:
    trace = Trace((1, c, side, side))
    _pooled(trace)
    weights = c * classes + classes
    trace.node("linear", (1, classes), macs=c * classes, params=weights + 2 * c, weights=weights)
    return trace


def _dual_head(*, c: int, side: int, classes: int) -> Trace:
    trace = Trace((1, c, side, side))
    _pooled(trace)
    weights = c * classes + classes
    for _ in range(2):
        trace.shape = (1, c)
        trace.node("linear", (1, classes), macs=c * classes, params=weights, weights=weights)
    trace.node("add", reads=2 * classes)
    trace.node("mul")
    return trace


KINDS: dict[str, Callable[..., Trace]] = {
    "stem": _stem,
    "dw": _dw,
    "ffn": _ffn,
    "merge": _merge,
    "reuse": _reuse,
    "cascaded-group": _cascaded_group,
    "single-head": _single_head,
    "element-wise": _element_wise,
    "head": _head,
    "conv-pool-stem": _conv_pool_stem,
    "conv-pool": _conv_pool,
    "conv-ffn": _conv_ffn,
    "dual-head": _dual_head,
}
"""Op kinds by name. A new attention adds its lowering here, one of another package by an entry point."""


@dataclass(frozen=True, slots=True)
class OpBody:
    """What a kind with its settings comes to; computed once."""

    in_shape: Shape
    out_shape: Shape
    primitives: tuple[Primitive, ...]
    macs: int
    params: int
    folded_params: int


@lru_cache(maxsize=65536)
def op_body(kind: str, settings: tuple[tuple[str, Setting], ...]) -> OpBody:
    named = dict(settings)
    trace = KINDS[kind](**named)
    side = named.get("side", named.get("resolution"))
    assert isinstance(side, int)
    channels = 3 if "resolution" in named else named["c"]
    assert isinstance(channels, int)
    primitives = tuple(trace.primitives)
    return OpBody(
        in_shape=(channels, side, side),
        out_shape=trace.shape[1:],
        primitives=primitives,
        macs=sum(primitive.macs for primitive in primitives),
        params=sum(primitive.params for primitive in primitives),
        folded_params=sum(_folded(primitive) for primitive in primitives),
    )


def _folded(primitive: Primitive) -> int:
    """Learnable parameters left after folding: a bias table stays a table, not the matrix it fills."""
    return min(primitive.params, primitive.weights)
