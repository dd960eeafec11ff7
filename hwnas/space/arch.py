"""ArchSpec: one vision transformer, as data. YAML in and out, checked at the edge, stable id.

An architecture says what there is - widths, depths, attentions, kernels - and never how large a
feature map is: shapes are computed in `hwnas.space.ops.lower` alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hwnas import plugins
from hwnas.errors import ArchError, FileFormatError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.space.op_kinds import KINDS

__all__ = [
    "ATTENTIONS",
    "FORMAT",
    "ArchSpec",
    "Attention",
    "CascadedGroup",
    "ElementWise",
    "Head",
    "Reuse",
    "SingleHead",
    "Stage",
    "Stem",
    "attention_from_dict",
    "attention_to_dict",
]

FORMAT = 1  # 1: the first one

MAX_WIDTH = 4096
MAX_DEPTH = 64
MAX_STAGES = 64
MAX_RESOLUTION = 2048
MAX_HEADS = 64
MAX_KERNEL = 31
MAX_CLASSES = 100_000

Problems = Iterator[str]


@dataclass(frozen=True, slots=True)
class Reuse:
    """One attention matrix for all heads; each head's values pass a kernel of their own (UniForm)."""

    type: ClassVar[str] = "reuse"

    heads: int
    kernels: tuple[int, ...]
    """Depthwise kernel of each head's values, one per head, odd."""
    query_kernel: int = 7
    """Depthwise kernel of the query; the released models use 7 also where no head has it."""
    window: int = 7
    """Attention looks within windows of at most this side."""
    variant: str = "released"
    """`released`: the authors' code, which the published figures follow. `paper`: equations 1 to 5
    as printed (Q and K of full width, a W^V, no bias, no output projection)."""

    def problems(self, width: int) -> Problems:
        yield from _kernel_problems(self.heads, self.kernels, width)
        yield from _odd_kernel("query_kernel", self.query_kernel)
        yield from _within("window", self.window, 1, MAX_RESOLUTION)
        if self.variant not in ("released", "paper"):
            yield f"variant: must be 'released' or 'paper', got '{self.variant}'"
        elif width % 4:
            yield f"width must be divisible by 4 for reuse attention, got width={width}"


@dataclass(frozen=True, slots=True)
class CascadedGroup:
    """Each head attends on its own split of the channels, fed by the head before (EfficientViT)."""

    type: ClassVar[str] = "cascaded-group"

    heads: int
    kernels: tuple[int, ...]
    """Depthwise kernel of each head's query, one per head, odd."""
    key_dim: int = 16
    """Channels of each head's query and key."""
    window: int = 7
    """Attention looks within windows of at most this side."""

    def problems(self, width: int) -> Problems:
        yield from _kernel_problems(self.heads, self.kernels, width)
        yield from _within("key_dim", self.key_dim, 1, MAX_WIDTH)
        yield from _within("window", self.window, 1, MAX_RESOLUTION)


@dataclass(frozen=True, slots=True)
class SingleHead:
    """One head over all tokens, on the first `channels` channels only (SHViT)."""

    type: ClassVar[str] = "single-head"

    channels: int
    """How many channels attend; the rest passes by."""
    key_dim: int = 16
    """Channels of the query and the key."""

    def problems(self, width: int) -> Problems:
        yield from _within("key_dim", self.key_dim, 1, MAX_WIDTH)
        if not 1 <= self.channels < width:
            yield f"channels: must be from 1 to width-1={width - 1}, got {self.channels}"


@dataclass(frozen=True, slots=True)
class ElementWise:
    """Query and key are multiplied element by element, per channel (EleViT).

    The defaults are the form that the search space holds: the paper's cheap projections, with the
    softmax, the swap and the gate of the released code.
    """

    type: ClassVar[str] = "element-wise"

    projections: str = "depthwise"
    """`depthwise`: 3x3 depthwise convolutions for Q, K and V (the paper's text). `dense`: dense 3x3
    ones (the released code)."""
    output: str = "pointwise"
    """`pointwise`: ReLU, 1x1 conv, as in the other attentions. `dense`: 3x3 conv, GELU (the
    released code). `none`: nothing (the paper's text)."""
    softmax: str = "width"
    """The axis that the softmax normalises: `width` (the released code) or `tokens` (all positions)."""
    swap_key: bool = True
    """Whether the key's height and width are swapped, as K^T in equation 1; needs square maps."""
    gate: bool = True
    """Whether a learnable scalar, 0 at first, scales the attention (the focusing factor)."""
    scale_channels_over: int = 1
    """The scores are divided by sqrt(width / this); 4 in the released code."""

    def problems(self, width: int) -> Problems:
        for name, allowed in (
            ("projections", ("depthwise", "dense")),
            ("output", ("pointwise", "dense", "none")),
            ("softmax", ("width", "tokens")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                yield f"{name}: must be one of {', '.join(allowed)}, got '{value}'"
        yield from _within("scale_channels_over", self.scale_channels_over, 1, MAX_WIDTH)


Attention = Reuse | CascadedGroup | SingleHead | ElementWise

ATTENTIONS: dict[str, type[Attention]] = {
    kind.type: kind for kind in (Reuse, SingleHead, CascadedGroup, ElementWise)
}
"""Attention types by the name that files use. A block without attention has `None` (file: none)."""

OWN = "space/attention"
"""Other packages add an attention type with an entry point in `hwnas.space.attention`, which names a module
with `Settings`, a dataclass as those above, and `nodes`, as the functions of `hwnas.space.op_kinds`. Its
torch module has an entry point of the same name in `hwnas.nn.attention`. examples/own_attention is one."""


def _added(kind: str) -> bool:
    """Adds the attention type of another package; False where no package has it."""
    if kind not in plugins.names(OWN):
        return False
    module = plugins.load(OWN, kind)
    ATTENTIONS[kind], KINDS[kind] = module.Settings, module.nodes
    return True


@dataclass(frozen=True, slots=True)
class Stem:
    """What turns the image into the first stage's feature map."""

    kind: str = "conv"
    """`conv`: 3x3 stride-2 convolutions, as many as the stride needs, width doubling up to the first
    stage's. `conv-pool`: two 3x3 convolutions, each followed by max pooling (EleViT, stride 4)."""
    stride: int = 16
    """Image side over feature-map side: 16, 8, 4 or 2; 4 for `conv-pool`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one width, and how the feature map gets there."""

    width: int
    """Channels."""
    blocks: tuple[Attention | None, ...]
    """The attention of each block, in order; None for a block without. A stage may have no blocks."""
    layout: str = "sandwich"
    """`sandwich`: DW, FFN, attention, DW, FFN. `dw-attention-ffn`: DW, attention, FFN.
    `ffn-attention`: EleViT's convolutional FFN, then attention."""
    ffn_ratio: int = 2
    """Hidden channels of an FFN over its width."""
    downsample: str = "merge"
    """What leads in from the stage before; ignored for the first stage, where it must be left out.
    `merge`: DW, FFN, merge with stride 2, DW, FFN. `conv-pool`: 3x3 convolution without padding, max
    pooling, BatchNorm (EleViT). Explicit: two stages of one width still downsample."""

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)


@dataclass(frozen=True, slots=True)
class Head:
    """What turns the last feature map into logits."""

    kind: str = "linear"
    """`linear`: mean over positions, BatchNorm, Linear. `dual`: the mean of two Linear layers (EleViT)."""
    classes: int = 1000


@dataclass(frozen=True, slots=True)
class ArchSpec:
    """One vision transformer: every published preset and every candidate of a search is one.

    Construction checks every rule and raises ArchError with all that is broken.
    """

    stages: tuple[Stage, ...]
    resolution: int = 224
    """Side of the square input image, in pixels."""
    stem: Stem = field(default_factory=Stem)
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        problems = list(_arch_problems(self))
        if problems:
            raise ArchError("\n".join(problems))

    @property
    def id(self) -> str:
        """12 hex digits that name this architecture: the same in every process and version.

        A hash of the canonical form, in which fields at their default are left out; so a field
        added later changes no id.
        """
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.head.classes

    def adapted(
        self,
        *,
        resolution: int | None = None,
        classes: int | None = None,
        stem_stride: int | None = None,
    ) -> ArchSpec:
        """The same blocks for another image size, number of classes or stem stride."""
        return dataclasses.replace(
            self,
            resolution=self.resolution if resolution is None else resolution,
            stem=self.stem if stem_stride is None else dataclasses.replace(self.stem, stride=stem_stride),
            head=self.head if classes is None else dataclasses.replace(self.head, classes=classes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without what is at its default."""
        data: dict[str, Any] = {"format": FORMAT, "resolution": self.resolution}
        for name, part in (("stem", self.stem), ("head", self.head)):
            if changed := _changed_fields(part):
                data[name] = changed
        data["stages"] = [
            {**_changed_fields(stage), "blocks": [attention_to_dict(block) for block in stage.blocks]}
            for stage in self.stages
        ]
        return data

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "architecture") -> ArchSpec:
        """The architecture that `to_dict` wrote.

        Raises ArchError, with a line for each mistake: the field's path, the rule, what came.
        """
        reader = _Reader(source)
        arch = reader.arch(data)
        if arch is None or reader.problems:
            raise ArchError("\n".join(reader.problems))
        return arch

    def to_yaml(self) -> str:
        """The text of an architecture file."""
        return yaml_io.dump(self.to_dict())

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "architecture") -> ArchSpec:
        """The architecture in the text of a file; raises ArchError as `from_dict` does."""
        try:
            data = yaml_io.parse(text, source=source)
        except FileFormatError as error:
            raise ArchError(str(error)) from None
        return cls.from_dict(data, source=source)


def attention_to_dict(attention: Attention | None) -> dict[str, Any] | str:
    """Plain data of one block's attention: a mapping with `type`, or 'none'."""
    if attention is None:
        return "none"
    return {"type": attention.type, **_changed_fields(attention)}


def attention_from_dict(data: Any, *, source: str) -> Attention | None:
    """The attention that `attention_to_dict` wrote; raises ArchError."""
    reader = _Reader(source)
    attention = reader.attention(data, "")
    if reader.problems:
        raise ArchError("\n".join(reader.problems))
    return attention


# --- rules -----------------------------------------------------------------------------------


def _within(name: str, value: int, low: int, high: int) -> Problems:
    if not low <= value <= high:
        yield f"{name}: must be from {low} to {high}, got {value}"


def _odd_kernel(name: str, kernel: int) -> Problems:
    if not 1 <= kernel <= MAX_KERNEL or kernel % 2 == 0:
        yield f"{name}: a kernel must be odd and from 1 to {MAX_KERNEL}, got {kernel}"


def _kernel_problems(heads: int, kernels: tuple[int, ...], width: int) -> Problems:
    yield from _within("heads", heads, 1, MAX_HEADS)
    if heads >= 1 and width % heads:
        yield f"width must be divisible by heads, got width={width} and heads={heads}"
    if len(kernels) != heads:
        yield f"kernels: must be one per head, got {len(kernels)} kernels for heads={heads}"
    for index, kernel in enumerate(kernels):
        yield from _odd_kernel(f"kernels[{index}]", kernel)


def _arch_problems(arch: ArchSpec) -> Problems:
    yield from _within("resolution", arch.resolution, 8, MAX_RESOLUTION)
    yield from _within("head.classes", arch.head.classes, 1, MAX_CLASSES)
    yield from _one_of("head.kind", arch.head.kind, ("linear", "dual"))
    yield from _one_of("stem.kind", arch.stem.kind, ("conv", "conv-pool"))
    strides = (4,) if arch.stem.kind == "conv-pool" else (2, 4, 8, 16)
    if arch.stem.stride not in strides:
        yield f"stem.stride: must be one of {strides} for '{arch.stem.kind}', got {arch.stem.stride}"
    yield from _within("stages: their number", len(arch.stages), 0, MAX_STAGES)
    if not arch.stages:
        yield "stages: there must be at least one stage, got none"
    for index, stage in enumerate(arch.stages):
        path = f"stages[{index}]"
        yield from _within(f"{path}.width", stage.width, 1, MAX_WIDTH)
        yield from _within(f"{path}.ffn_ratio", stage.ffn_ratio, 1, 16)
        yield from _within(f"{path}.blocks: their number", stage.depth, 0, MAX_DEPTH)
        yield from _one_of(f"{path}.layout", stage.layout, ("sandwich", "dw-attention-ffn", "ffn-attention"))
        if index:
            yield from _one_of(f"{path}.downsample", stage.downsample, ("merge", "conv-pool"))
        elif stage.downsample != "merge":
            yield f"{path}.downsample: the first stage has none, got '{stage.downsample}'"
        for number, attention in enumerate(stage.blocks):
            if attention is not None:
                for problem in attention.problems(stage.width):
                    yield f"{path}.blocks[{number}]: {problem}"
    if arch.stages and arch.stem.stride in strides:
        divisor = 2 if arch.stem.kind == "conv-pool" else arch.stem.stride // 2
        if arch.stages[0].width % divisor:
            yield (
                f"stages[0].width: must be divisible by {divisor} for a stem of stride "
                f"{arch.stem.stride}, got {arch.stages[0].width}"
            )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> Problems:
    if value not in allowed:
        yield f"{name}: must be one of {', '.join(allowed)}, got '{value}'.{did_you_mean(value, allowed)}"


# --- reading ---------------------------------------------------------------------------------


def _changed_fields(part: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their default, as plain data; blocks left out."""
    changed = {}
    for spec in dataclasses.fields(part):
        value = getattr(part, spec.name)
        if spec.name != "blocks" and (spec.default is dataclasses.MISSING or value != spec.default):
            changed[spec.name] = list(value) if isinstance(value, tuple) else value
    return changed


class _Reader:
    """Plain data -> ArchSpec, collecting every mistake with the path of its field."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[str] = []

    def fail(self, path: str, problem: str) -> None:
        self.problems.append(f"{self.source}: {path}: {problem}" if path else f"{self.source}: {problem}")

    def mapping(self, data: Any, path: str) -> Mapping[str, Any] | None:
        if not isinstance(data, Mapping):
            self.fail(path, f"must be a mapping, got {_described(data)}")
            return None
        return data

    def sequence(self, data: Any, path: str) -> list[Any] | None:
        if not isinstance(data, list):
            self.fail(path, f"must be a list, got {_described(data)}")
            return None
        return data

    def fields(self, kind: type[Any], data: Mapping[str, Any], path: str, skip: tuple[str, ...]) -> Any:
        """An instance of the dataclass from a mapping, or None when a field is wrong."""
        specs = {spec.name: spec for spec in dataclasses.fields(kind)}
        values: dict[str, Any] = {}
        before = len(self.problems)
        for name, value in data.items():
            where = f"{path}.{name}" if path else str(name)
            if name in skip:
                continue
            if name not in specs:
                self.fail(where, f"no such field.{did_you_mean(str(name), specs)}")
            else:
                self.value(values, str(name), str(specs[name].type), value, where)
        for name, spec in specs.items():
            required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
            if required and name not in data and name not in skip:
                self.fail(f"{path}.{name}" if path else name, "is required")
        return values if len(self.problems) == before else None

    def value(self, values: dict[str, Any], name: str, wanted: str, value: Any, where: str) -> None:
        if wanted == "tuple[int, ...]":
            items = self.sequence(value, where)
            if items is None:
                return
            for index, item in enumerate(items):
                if type(item) is not int:
                    self.fail(f"{where}[{index}]", f"must be a whole number, got {_described(item)}")
                    return
            values[name] = tuple(items)
            return
        expected = {"int": int, "str": str, "bool": bool}[wanted]
        if type(value) is not expected:  # bool is an int for isinstance
            word = {"int": "a whole number", "str": "text", "bool": "true or false"}[wanted]
            self.fail(where, f"must be {word}, got {_described(value)}")
            return
        values[name] = value

    def attention(self, data: Any, path: str) -> Attention | None:
        if data == "none":
            return None
        if isinstance(data, str):
            data = {"type": data}
        mapping = self.mapping(data, path)
        if mapping is None:
            return None
        kind = mapping.get("type")
        if not isinstance(kind, str) or (kind not in ATTENTIONS and not _added(kind)):
            known = ", ".join([*ATTENTIONS, "none"])
            hint = did_you_mean(kind, ATTENTIONS) if isinstance(kind, str) else ""
            self.fail(path, f"no attention '{kind}'.{hint} Known: {known}")
            return None
        values = self.fields(ATTENTIONS[kind], mapping, path, ("type",))
        return None if values is None else ATTENTIONS[kind](**values)

    def stage(self, data: Any, path: str) -> Stage | None:
        mapping = self.mapping(data, path)
        if mapping is None:
            return None
        values = self.fields(Stage, mapping, path, ("blocks",))
        blocks = self.sequence(mapping.get("blocks"), f"{path}.blocks")
        attentions = tuple(
            self.attention(block, f"{path}.blocks[{number}]") for number, block in enumerate(blocks or ())
        )
        if blocks is None or values is None:
            return None
        return Stage(blocks=attentions, **values)

    def arch(self, data: Any) -> ArchSpec | None:
        mapping = self.mapping(data, "")
        if mapping is None:
            return None
        version = mapping.get("format")
        if type(version) is not int:
            self.fail("format", f"must be a whole number, got {_described(version)}")
        elif version > FORMAT:
            self.fail("format", f"this hwnas reads up to {FORMAT}, got {version}: upgrade hwnas")
        elif version < 1:
            self.fail("format", f"must be from 1 to {FORMAT}, got {version}")
        values = self.fields(ArchSpec, mapping, "", ("format", "stem", "head", "stages"))
        parts: dict[str, Any] = {}
        for name, kind in (("stem", Stem), ("head", Head)):
            if name in mapping and (part := self.mapping(mapping[name], name)) is not None:
                fields = self.fields(kind, part, name, ())
                parts[name] = None if fields is None else kind(**fields)
        stages = self.sequence(mapping.get("stages"), "stages")
        read = [self.stage(stage, f"stages[{index}]") for index, stage in enumerate(stages or [])]
        if self.problems or values is None:
            return None
        try:
            return ArchSpec(stages=tuple(stage for stage in read if stage is not None), **values, **parts)
        except ArchError as error:
            for problem in str(error).splitlines():
                self.fail("", problem)
            return None


def _described(value: Any) -> str:
    """A value as an error shows it: its text, shortened, and what it is."""
    names: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    names |= {list: "a list", dict: "a mapping", type(None): "nothing"}
    kind = names.get(type(value), type(value).__name__)
    text = repr(value)
    return kind if value is None else f"{text if len(text) <= 40 else text[:37] + '...'} ({kind})"
