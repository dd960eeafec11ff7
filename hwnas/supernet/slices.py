"""Which part of which shared tensor each parameter of a network is.

A parameter is one piece of a shared tensor, or several one above the other. Which channels a piece takes
follows from what they mean: channel 7 of a stage's feature map is channel 7 in every width, so

    what reads or writes the feature map   takes its leading channels
    a head that reads channels 32 to 63    takes 32 to 63, however many heads and channels there are
    Q, K and V of one convolution          are sliced apart, each from a tensor of its own
    Q and K of a cascaded head             have norms and a local convolution by the head's number
    a smaller kernel                       is the middle of the larger one
    a smaller window's table of biases     has the same entry for the same distance

Blocks of different attention types share nothing, neither the attention nor what stands around it. Stem,
downsamplings and head belong to no type, and are shared by all networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from hwnas.errors import UsageError
from hwnas.nn.network import build_op
from hwnas.space import ArchSpec, OpSpec, lower
from hwnas.space.arch import Attention, Reuse

__all__ = ["Piece", "attention_tag", "op_pieces", "pieces", "shared_place"]

Shape = tuple[int, ...]
Setting = int | str | bool | tuple[int, ...]
Range = tuple[int | None, int]
"""(first, how many) along an axis; first is None for those in the middle."""
Part = tuple[str, tuple[Range, ...]]
"""(name within the op, ranges along each axis of the shared tensor)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one shared tensor."""

    slot: str
    """Name of the shared tensor, such as `stages.1.blocks.0[reuse].attention.output.1.conv.weight`."""
    ranges: tuple[Range, ...]
    """Along each axis of the shared tensor."""

    @property
    def extent(self) -> Shape:
        """The least shape of a shared tensor that holds this piece."""
        return tuple((first or 0) + count for first, count in self.ranges)

    def of(self, shared: torch.Tensor) -> torch.Tensor:
        """The piece itself: a view of the shared tensor."""
        for axis, (first, count) in enumerate(self.ranges):
            start = (shared.shape[axis] - count) // 2 if first is None else first
            shared = shared.narrow(axis, start, count)
        return shared


def pieces(arch: ArchSpec) -> Iterator[tuple[str, Shape, tuple[Piece, ...]]]:
    """(name, shape, pieces) of every parameter of the network, in the order of `named_parameters`.

    The parameter is its pieces one above the other (along the first axis), in that shape. Raises
    UsageError for a network with parts that no search space has.
    """
    for op in lower(arch):
        for name, shape, some in op_pieces(op, arch):
            yield f"{op.place}.{name}", shape, some


def op_pieces(op: OpSpec, arch: ArchSpec) -> Iterator[tuple[str, Shape, tuple[Piece, ...]]]:
    """The same for one op of the network, with names as the op's own module has them."""
    where = shared_place(op, arch)
    for name, shape, parts in _parts(op.kind, op.settings):
        yield name, shape, tuple(Piece(f"{where}.{inner}", ranges) for inner, ranges in parts)


def attention_tag(attention: Attention | None) -> str:
    """What a block's weights are shared by: its attention type, and the variant where that is another
    function of the same weights."""
    if attention is None:
        return "none"
    if isinstance(attention, Reuse) and attention.variant != "released":
        return f"{attention.type}-{attention.variant}"
    return attention.type


def shared_place(op: OpSpec, arch: ArchSpec) -> str:
    """The place of an op's shared weights: with the attention type in a block, the stride for a stem."""
    if op.kind == "stem":
        return f"stem[{arch.stem.stride}]"
    block = re.match(r"stages\.(\d+)\.blocks\.(\d+)", op.place)
    if block is None:
        return op.place
    stage, number = map(int, block.groups())
    tag = attention_tag(arch.stages[stage].blocks[number])
    return f"{block.group()}[{tag}]{op.place[block.end() :]}"


@lru_cache(maxsize=4096)
def _parts(
    kind: str, settings: tuple[tuple[str, Setting], ...]
) -> tuple[tuple[str, Shape, tuple[Part, ...]], ...]:
    """(name, shape, parts) of an op's parameters."""
    if kind not in _RULES:
        raise UsageError(f"networks with a '{kind}' share no weights: they are in no search space")
    with torch.device("meta"):  # names and shapes alone
        module = build_op(OpSpec(kind, settings))
    rule, known = _RULES[kind], dict(settings)
    return tuple(
        (name, tuple(parameter.shape), tuple(rule(known, name, tuple(parameter.shape))))
        for name, parameter in module.named_parameters()
    )


# --- a rule for each kind of op --------------------------------------------------------------

Settings = Mapping[str, Setting]
Rule = Callable[[Settings, str, Shape], list[Part]]


def _leading(known: Settings, name: str, shape: Shape) -> list[Part]:
    """The leading channels and the middle of the kernel."""
    return [(name, _ranges(shape))]


def _reuse(known: Settings, name: str, shape: Shape) -> list[Part]:
    """The heads' values are channels of the feature map, and so are the kernels that they pass."""
    if name.startswith("query_key."):
        return _apart(name, ("query", "key"), (shape[0] // 2, shape[0] // 2), shape)
    if match := re.fullmatch(r"value_scales\.(\d+)\.(\w+)", name):
        return [(f"value_scales.{match[2]}", _ranges(shape, first=int(match[1]) * shape[0]))]
    return _table(name, shape) or _leading(known, name, shape)


def _single_head(known: Settings, name: str, shape: Shape) -> list[Part]:
    """Those channels attend that come first."""
    if name.startswith("query_key_value."):
        channels = _number(known, "channels")
        keys = (shape[0] - channels) // 2
        return _apart(name, ("query", "key", "value"), (keys, keys, channels), shape)
    return _leading(known, name, shape)


def _cascaded_group(known: Settings, name: str, shape: Shape) -> list[Part]:
    """What a head reads, and its V, are channels of the feature map; its Q and K are its own."""
    match = re.fullmatch(r"query_key_value\.(\d+)\.(.+)", name)
    if match is None:
        return _table(name, shape) or _leading(known, name, shape)
    head, inner = int(match[1]), match[2]
    channels = _number(known, "c") // _number(known, "heads")
    keys, start = (shape[0] - channels) // 2, head * channels
    if inner == "conv.weight":
        whole = "query_key_value.conv.weight"
        columns: tuple[Range, ...] = ((start, channels), (None, 1), (None, 1))
        queries_keys = [(f"{whole}/{part}", ((0, keys), *columns)) for part in ("query", "key")]
        return [*queries_keys, (f"{whole}/value", ((start, channels), *columns))]
    queries_keys = [(f"{name}/{part}", ((0, keys),)) for part in ("query", "key")]
    return [*queries_keys, (f"query_key_value.{inner}/value", ((start, channels),))]


def _element_wise(known: Settings, name: str, shape: Shape) -> list[Part]:
    """Every channel is a head."""
    if name.startswith("query_key_value."):
        return _apart(name, ("query", "key", "value"), (_number(known, "c"),) * 3, shape)
    return _leading(known, name, shape)


_RULES: Mapping[str, Rule] = {
    "stem": _leading,
    "dw": _leading,
    "ffn": _leading,
    "merge": _leading,
    "head": _leading,
    "reuse": _reuse,
    "single-head": _single_head,
    "cascaded-group": _cascaded_group,
    "element-wise": _element_wise,
}


def _ranges(shape: Shape, *, first: int = 0) -> tuple[Range, ...]:
    """Channels from `first` on in the first axis, the leading ones in the second, the middle of a kernel."""
    return tuple((None if axis >= 2 else first if axis == 0 else 0, size) for axis, size in enumerate(shape))


def _apart(name: str, parts: tuple[str, ...], rows: tuple[int, ...], shape: Shape) -> list[Part]:
    """Rows of one parameter that belong to different things, each in a tensor of its own."""
    return [(f"{name}/{part}", _ranges((count, *shape[1:]))) for part, count in zip(parts, rows, strict=True)]


def _table(name: str, shape: Shape) -> list[Part]:
    """A table of biases by (|drow|, |dcol|), shared as (rows, side, side); [] for other parameters."""
    if name != "bias.table":
        return []
    side = math.isqrt(shape[1])
    return [(name, ((0, shape[0]), (0, side), (0, side)))]


def _number(known: Settings, name: str) -> int:
    value = known[name]
    assert isinstance(value, int)
    return value
