"""ArchSpec -> the ops it runs. The only place that computes a shape.

`lower(arch)` lists the network's ops in the order they run. An op (`OpSpec`) is what a latency
table has a row for: a convolutional block, an FFN, an attention. Its primitives are the nodes of
the reference graph: the published network with BatchNorm folded. MACs, parameters, bytes and nodes
are sums over them, so a table, a network and a predictor can't disagree. What is deployed and timed is
each op in the form that its runtime gets (`hwnas.export.deployment_graph`): the same function, the
same MACs but for kernels padded with zeros, often fewer nodes.

MACs count convolutions, linear layers and the two matrix products of attention, as the papers do.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hwnas.errors import FileFormatError, did_you_mean
from hwnas.space.arch import ArchSpec, Attention, Stage
from hwnas.space.op_kinds import KINDS, Primitive, Setting, Shape, op_body, squeezed_channels

__all__ = [
    "KINDS",
    "OpSpec",
    "Primitive",
    "count_macs",
    "count_params",
    "lower",
    "peak_activation_bytes",
    "squeezed_channels",
]


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One op: its kind and settings name it; everything else follows from them."""

    kind: str
    settings: tuple[tuple[str, Setting], ...]
    """Names and values, in the order of the key."""
    place: str = field(default="", compare=False)
    """Where in the network, as `stages.1.blocks.0.attention`; no part of the op's identity."""

    @property
    def key(self) -> str:
        """What a table row is called: `reuse(c=128,side=7,heads=4,kernels=1-3-5-7)`."""
        return f"{self.kind}({','.join(f'{name}={_written(value)}' for name, value in self.settings)})"

    @classmethod
    def from_key(cls, key: str) -> OpSpec:
        """The op that a table row is called after. Raises FileFormatError when it names none."""
        match = re.fullmatch(r"([a-z-]+)\((.*)\)", key)
        if match is None:
            raise FileFormatError(f"an op is written as kind(name=value,...), got '{key}'")
        kind, inside = match.groups()
        if kind not in KINDS:
            raise FileFormatError(f"no op kind '{kind}' in '{key}'.{did_you_mean(kind, KINDS)}")
        settings = []
        for item in inside.split(","):
            name, _, text = item.partition("=")
            settings.append((name, _read(text, several=name == "kernels")))
        op = cls(kind, tuple(settings))
        try:
            op.primitives  # noqa: B018 - an unknown or missing setting shows here
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise FileFormatError(f"'{key}' is no op: {error}") from None
        return op

    @property
    def in_shape(self) -> Shape:
        """(C, H, W) of the input."""
        return op_body(self.kind, self.settings).in_shape

    @property
    def out_shape(self) -> Shape:
        """(C, H, W) of the output; (classes,) for a head."""
        return op_body(self.kind, self.settings).out_shape

    @property
    def primitives(self) -> tuple[Primitive, ...]:
        """The nodes of the reference graph, in order."""
        return op_body(self.kind, self.settings).primitives

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return op_body(self.kind, self.settings).macs

    @property
    def params(self) -> int:
        """Learnable parameters of the network as trained."""
        return op_body(self.kind, self.settings).params

    @property
    def folded_params(self) -> int:
        """Learnable parameters that are left when BatchNorm is folded."""
        return op_body(self.kind, self.settings).folded_params

    @property
    def nodes(self) -> int:
        """Nodes of the reference graph that a runtime works on: fused ones and reshapes don't count."""
        return sum(primitive.works for primitive in self.primitives)

    def weight_bytes(self, *, bytes_per_element: int = 4) -> int:
        """Bytes of constants that the op holds in the reference graph."""
        return bytes_per_element * sum(primitive.weights for primitive in self.primitives)

    def activation_bytes(self, *, bytes_per_element: int = 4) -> int:
        """Bytes of activations read and written for one image; fused nodes and reshapes move none."""
        moved = sum(p.reads + p.writes for p in self.primitives if p.works)
        return bytes_per_element * moved

    def unfused_bytes(self, *, bytes_per_element: int = 4) -> int:
        """Bytes that fused nodes move as well where a runtime runs each of them by itself."""
        return bytes_per_element * sum(p.reads + p.writes for p in self.primitives if p.fused)


def lower(arch: ArchSpec) -> tuple[OpSpec, ...]:
    """The ops that the network runs, in order, each with its place in the network."""
    ops: list[OpSpec] = []

    def add(place: str, kind: str, **settings: Setting) -> None:
        ops.append(OpSpec(kind, tuple(settings.items()), place))

    def side() -> int:
        return ops[-1].out_shape[1]

    def dw(place: str, width: int) -> None:
        add(place, "dw", c=width, side=side())

    def ffn(place: str, width: int, ratio: int) -> None:
        add(place, "ffn", c=width, side=side(), hidden=ratio * width)

    first = arch.stages[0].width
    if arch.stem.kind == "conv":
        add("stem", "stem", c=first, resolution=arch.resolution, stride=arch.stem.stride)
    else:
        add("stem", "conv-pool-stem", c=first, resolution=arch.resolution)
    for index, stage in enumerate(arch.stages):
        width, place = stage.width, f"stages.{index}"
        if index:
            before = arch.stages[index - 1].width
            if stage.downsample == "merge":
                dw(f"{place}.downsample.dw0", before)
                ffn(f"{place}.downsample.ffn0", before, 2)
                add(f"{place}.downsample.merge", "merge", c=before, out=width, side=side())
                dw(f"{place}.downsample.dw1", width)
                ffn(f"{place}.downsample.ffn1", width, 2)
            else:
                add(f"{place}.downsample", "conv-pool", c=before, out=width, side=side())
        for number, attention in enumerate(stage.blocks):
            block = f"{place}.blocks.{number}"
            for part in _parts(stage, attention):
                if part == "attention":
                    assert attention is not None
                    add(f"{block}.attention", attention.type, **_attention_settings(attention, width, side()))
                elif part.startswith("dw"):
                    dw(f"{block}.{part}", width)
                elif stage.layout == "ffn-attention":
                    add(f"{block}.{part}", "conv-ffn", c=width, side=side(), hidden=stage.ffn_ratio * width)
                else:
                    ffn(f"{block}.{part}", width, stage.ffn_ratio)
    head = "head" if arch.head.kind == "linear" else "dual-head"
    add("head", head, c=arch.stages[-1].width, side=side(), classes=arch.head.classes)
    return tuple(ops)


def count_macs(ops: Iterable[OpSpec]) -> int:
    """Multiply-accumulates for one image."""
    return sum(op.macs for op in ops)


def count_params(ops: Iterable[OpSpec], *, folded: bool = False) -> int:
    """Learnable parameters, as trained or with BatchNorm folded."""
    return sum(op.folded_params if folded else op.params for op in ops)


def peak_activation_bytes(ops: Iterable[OpSpec], *, bytes_per_element: int = 4) -> int:
    """The most that lives at once, estimated: a node's inputs and outputs, and its op's input.

    The op's input is held for the residual connection; runtimes that plan memory better stay below.
    """
    peak = max(math.prod(op.in_shape) + node.reads + node.writes for op in ops for node in op.primitives)
    return bytes_per_element * peak


# --- the network's structure -----------------------------------------------------------------

_LAYOUTS = {
    "sandwich": ("dw0", "ffn0", "attention", "dw1", "ffn1"),
    "dw-attention-ffn": ("dw", "attention", "ffn"),
    "ffn-attention": ("ffn", "attention"),
}


def _parts(stage: Stage, attention: Attention | None) -> tuple[str, ...]:
    parts = _LAYOUTS[stage.layout]
    return parts if attention is not None else tuple(part for part in parts if part != "attention")


def _attention_settings(attention: Attention, width: int, side: int) -> dict[str, Setting]:
    """Settings of the op: width, side, then what is needed or not at its default."""
    settings: dict[str, Setting] = {"c": width, "side": side}
    for spec in dataclasses.fields(attention):
        value = getattr(attention, spec.name)
        if spec.default is dataclasses.MISSING or value != spec.default:
            settings[spec.name] = value
    return settings


# --- keys ------------------------------------------------------------------------------------


def _written(value: Setting) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _read(text: str, *, several: bool) -> Setting:
    if text in ("yes", "no"):
        return text == "yes"
    if re.fullmatch(r"\d+", text) and not several:
        return int(text)
    if re.fullmatch(r"\d+(-\d+)*", text):
        return tuple(map(int, text.split("-")))
    return text
