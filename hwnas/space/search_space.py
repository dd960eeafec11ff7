"""SearchSpace: the choices there are, as ordered decisions; sample, encode, decode.

A network of the space is a fixed-length vector of choice numbers. Blocks that a stage does not have
are -1. Every network has exactly one vector: an attention and all its parameters are one choice,
and a block without attention exists in the layout `dw-attention-ffn` only (in `sandwich` it would be
two such blocks).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from hwnas.errors import ArchError, FileFormatError, SpaceError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.space.arch import (
    MAX_CLASSES,
    MAX_DEPTH,
    MAX_RESOLUTION,
    MAX_STAGES,
    MAX_WIDTH,
    ArchSpec,
    Attention,
    Head,
    SingleHead,
    Stage,
    Stem,
    attention_from_dict,
    attention_to_dict,
)
from hwnas.space.changes import changed_name

__all__ = ["INACTIVE", "AttentionOption", "Decision", "SearchSpace", "StageSpace"]

FORMAT = 1  # 1: the first one
INACTIVE = -1
"""What stands in a vector for a block that the stage does not have."""
WITHOUT = "dw-attention-ffn"
"""The one layout in which a block may be without attention: elsewhere it would be two such blocks."""

Vector = tuple[int, ...]


MAX_CHOICES = 256
"""Of one decision: more would take longer to look at than to search."""


@dataclass(frozen=True, slots=True)
class AttentionOption:
    """One choice of attention: a type with its parameters, made to fit a stage's width."""

    attention: Attention | None
    """The attention; for a partial ratio, a template whose `channels` are set by the width."""
    ratio: float | None = None
    """Width over attending channels, for single-head attention; the channels are rounded."""

    def fitted(self, width: int) -> Attention | None:
        """The attention for a stage of this width; raises ArchError when it does not fit."""
        attention = self.attention
        if attention is None:
            return None
        if self.ratio is not None:
            assert isinstance(attention, SingleHead)
            attention = dataclasses.replace(attention, channels=round(width / self.ratio))
        problems = list(attention.problems(width))
        if problems:
            raise ArchError("\n".join(problems))
        return attention

    def to_dict(self) -> dict[str, Any] | str:
        """Plain data, as in a space file."""
        data = attention_to_dict(self.attention)
        if self.ratio is not None and isinstance(data, dict):
            data = {name: value for name, value in data.items() if name != "channels"} | {"ratio": self.ratio}
        return data

    @classmethod
    def from_dict(cls, data: Any, *, source: str) -> AttentionOption:
        """The option of a space file; raises SpaceError."""
        try:
            if isinstance(data, Mapping) and "ratio" in data:
                ratio = data["ratio"]
                if type(ratio) not in (int, float) or not 1 < ratio <= 64:
                    raise SpaceError(f"{source}.ratio: must be a number above 1 and up to 64, got {ratio!r}")
                rest = {name: value for name, value in data.items() if name != "ratio"}
                attention = attention_from_dict({**rest, "channels": 1}, source=source)
                if not isinstance(attention, SingleHead):
                    raise SpaceError(f"{source}.ratio: only single-head attention has one")
                return cls(attention, float(ratio))
            return cls(attention_from_dict(data, source=source))
        except ArchError as error:
            raise SpaceError(str(error)) from None


@dataclass(frozen=True)
class StageSpace:
    """The choices of one stage."""

    width: tuple[int, ...]
    depth: tuple[int, ...]
    ffn_ratio: tuple[int, ...]
    layout: tuple[str, ...]
    attention: tuple[AttentionOption, ...]

    def allowed(self, width: int, layout: str) -> tuple[int, ...]:
        """Numbers of the attention options that fit a width and a layout."""
        known = self._allowed.get((width, layout))
        if known is None:
            known = self._allowed[width, layout] = tuple(
                number
                for number, option in enumerate(self.attention)
                if _fits_one_of(option, (width,)) and (option.attention is not None or layout == WITHOUT)
            )
        return known

    @cached_property
    def _allowed(self) -> dict[tuple[int, str], tuple[int, ...]]:
        return {}


@dataclass(frozen=True, slots=True)
class Decision:
    """One place of the vector: its name and its choices, in order."""

    name: str
    """As `stages.0.width` or `stages.2.blocks.3`."""
    choices: tuple[Any, ...]
    ordinal: bool
    """Whether neighbours are alike (widths), or not (attention types)."""


@dataclass(frozen=True)
class SearchSpace:
    """The networks that a search chooses from."""

    name: str
    resolution: tuple[int, ...]
    stem_stride: tuple[int, ...]
    stages: tuple[StageSpace, ...]
    classes: int = 1000

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise SpaceError("\n".join(f"space '{self.name}': {problem}" for problem in problems))

    def adapted(
        self,
        *,
        resolution: int | None = None,
        stem_stride: int | None = None,
        classes: int | None = None,
    ) -> SearchSpace:
        """The same blocks for one image size, one stem stride and another number of classes.

        What is None stays as it is. A space that changes gets a name of its own.
        Raises SpaceError for a size that no network has.
        """
        for name, value, allowed in (
            ("--image-size", resolution, range(8, MAX_RESOLUTION + 1)),
            ("--stem-stride", stem_stride, (2, 4, 8, 16)),
            ("--classes", classes, range(2, MAX_CLASSES + 1)),
        ):
            if value is not None and value not in allowed:
                low_to_high = (
                    f"from {allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else "2, 4, 8 or 16"
                )
                raise SpaceError(f"{name} must be {low_to_high}, got {value}")
        resolution = None if (resolution,) == self.resolution else resolution
        stem_stride = None if (stem_stride,) == self.stem_stride else stem_stride
        classes = None if classes == self.classes else classes
        return dataclasses.replace(
            self,
            name=changed_name(self.name, resolution=resolution, stem_stride=stem_stride, classes=classes),
            resolution=self.resolution if resolution is None else (resolution,),
            stem_stride=self.stem_stride if stem_stride is None else (stem_stride,),
            classes=self.classes if classes is None else classes,
        )

    # --- files ---

    @classmethod
    def default(cls) -> SearchSpace:
        """The space that holds every preset of the design that three of the four families share."""
        return _default()

    @classmethod
    def load(cls, name_or_path: Path | str) -> SearchSpace:
        """The space of a name ("default", "small-images") or of a YAML file.

        >>> SearchSpace.load("default").name
        'default'

        Raises SpaceError when there is none or when it breaks a rule.
        """
        return cls.from_yaml(name_or_path)

    @classmethod
    def from_yaml(cls, path: Path | str) -> SearchSpace:
        """The space of a file, or of hwnas by name ("default", "small-images").

        Raises SpaceError when there is none or when it breaks a rule.
        """
        shipped = {file.stem: file for file in (Path(__file__).parent / "spaces").glob("*.yaml")}
        file = Path(path)
        if str(path) in shipped and not file.exists():
            file = shipped[str(path)]
        if not file.exists():
            hint = did_you_mean(str(path), shipped) or f" Spaces of hwnas: {', '.join(sorted(shipped))}"
            raise SpaceError(f"no space file '{path}'.{hint}")
        try:
            return cls.from_dict(yaml_io.read(file), source=str(path))
        except FileFormatError as error:
            raise SpaceError(str(error)) from None

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "space") -> SearchSpace:
        """The space that `to_dict` wrote; raises SpaceError."""
        top = _mapping(
            data, source, ("format", *(spec.name for spec in dataclasses.fields(cls)), "attention")
        )
        if type(top.get("format")) is not int or not 1 <= top["format"] <= FORMAT:
            raise SpaceError(f"{source}: format must be from 1 to {FORMAT}, got {top.get('format')!r}")
        stages = top.get("stages")
        if not isinstance(stages, list) or not 1 <= len(stages) <= MAX_STAGES:
            raise SpaceError(f"{source}: stages must be a list of 1 to {MAX_STAGES} stages")
        reader = _Collecting()
        shared = reader(_options, top["attention"], f"{source}: attention") if "attention" in top else ()
        used: set[AttentionOption] = set()
        read = []
        for index, item in enumerate(stages):
            path = f"{source}: stages[{index}]"
            keys = ("width", "depth", "ffn_ratio", "layout", "attention")
            stage = reader(_mapping, item, path, keys)
            if not stage:
                continue
            widths = reader(_numbers, stage.get("width"), f"{path}.width", 1, MAX_WIDTH)
            if "attention" in stage:
                options = reader(_options, stage["attention"], f"{path}.attention")
            else:
                options = tuple(option for option in shared if _fits_one_of(option, widths))
                used.update(options)
            read.append(
                StageSpace(
                    width=widths,
                    depth=reader(_numbers, stage.get("depth"), f"{path}.depth", 0, MAX_DEPTH),
                    ffn_ratio=reader(_numbers, stage.get("ffn_ratio", [2]), f"{path}.ffn_ratio", 1, 16),
                    layout=reader(_texts, stage.get("layout", ["sandwich"]), f"{path}.layout"),
                    attention=options,
                )
            )
        sizes = reader(_numbers, top.get("resolution", [224]), f"{source}: resolution", 8, MAX_RESOLUTION)
        strides = reader(_numbers, top.get("stem_stride", [16]), f"{source}: stem_stride", 1, MAX_RESOLUTION)
        classes = reader(_numbers, [top.get("classes", 1000)], f"{source}: classes", 1, MAX_CLASSES)
        if not reader.problems:
            reader.problems += [
                f"{source}: attention: {option.to_dict()} fits no width of any stage"
                for option in shared
                if option not in used
            ]
        if reader.problems:
            raise SpaceError("\n".join(reader.problems))
        return cls(
            name=str(top.get("name", "unnamed")),
            resolution=sizes,
            stem_stride=strides,
            stages=tuple(read),
            classes=classes[0],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in a space file."""
        data: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "resolution": list(self.resolution),
            "stem_stride": list(self.stem_stride),
            "classes": self.classes,
        }
        same = len({stage.attention for stage in self.stages}) == 1
        if same:
            data["attention"] = [option.to_dict() for option in self.stages[0].attention]
        data["stages"] = [
            {
                "width": list(stage.width),
                "depth": list(stage.depth),
                "ffn_ratio": list(stage.ffn_ratio),
                "layout": list(stage.layout),
            }
            | ({} if same else {"attention": [option.to_dict() for option in stage.attention]})
            for stage in self.stages
        ]
        return data

    # --- the vector ---

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """What each place of a vector decides, in order."""
        decisions = [
            Decision("resolution", self.resolution, ordinal=True),
            Decision("stem_stride", self.stem_stride, ordinal=True),
        ]
        for index, stage in enumerate(self.stages):
            place = f"stages.{index}"
            decisions += [
                Decision(f"{place}.width", stage.width, ordinal=True),
                Decision(f"{place}.depth", stage.depth, ordinal=True),
                Decision(f"{place}.ffn_ratio", stage.ffn_ratio, ordinal=True),
                Decision(f"{place}.layout", stage.layout, ordinal=False),
            ]
            decisions += [
                Decision(f"{place}.blocks.{number}", stage.attention, ordinal=False)
                for number in range(max(stage.depth))
            ]
        return tuple(decisions)

    @cached_property
    def size(self) -> int:
        """How many networks there are, exactly."""
        total = len(self.resolution) * len(self.stem_stride)
        for stage in self.stages:
            total *= len(stage.ffn_ratio) * sum(
                len(stage.allowed(width, layout)) ** depth
                for width in stage.width
                for layout in stage.layout
                for depth in stage.depth
            )
        return total

    def encode(self, arch: ArchSpec) -> Vector:
        """The one vector of a network; raises SpaceError when it is not in this space."""
        if arch.stem.kind != "conv" or arch.head != Head(classes=self.classes):
            raise SpaceError(f"space '{self.name}' has networks with the shared stem and head only")
        if len(arch.stages) != len(self.stages):
            raise SpaceError(
                f"space '{self.name}' has networks of {len(self.stages)} stages, got {len(arch.stages)}"
            )
        vector = [
            self._number("resolution", arch.resolution, self.resolution),
            self._number("stem_stride", arch.stem.stride, self.stem_stride),
        ]
        for index, (choices, stage) in enumerate(zip(self.stages, arch.stages, strict=True)):
            place = f"stages[{index}]"
            if stage.downsample != "merge":
                raise SpaceError(f"{place}.downsample: space '{self.name}' has 'merge' only")
            vector += [
                self._number(f"{place}.width", stage.width, choices.width),
                self._number(f"{place}.depth", stage.depth, choices.depth),
                self._number(f"{place}.ffn_ratio", stage.ffn_ratio, choices.ffn_ratio),
                self._number(f"{place}.layout", stage.layout, choices.layout),
            ]
            fitted = {
                choices.attention[number].fitted(stage.width): number
                for number in choices.allowed(stage.width, stage.layout)
            }
            for number, attention in enumerate(stage.blocks):
                if attention not in fitted:
                    shown = attention_to_dict(attention)
                    raise SpaceError(f"{place}.blocks[{number}]: {shown} is no choice of space '{self.name}'")
                vector.append(fitted[attention])
            vector += [INACTIVE] * (max(choices.depth) - stage.depth)
        return tuple(vector)

    def decode(self, vector: Sequence[int]) -> ArchSpec:
        """The network of a vector; raises SpaceError for a vector that `encode` never gives."""
        vector = tuple(int(number) for number in vector)
        if vector != self.repair(vector):
            raise SpaceError(
                f"space '{self.name}': {list(vector)} is not the vector of a network; "
                f"the nearest one is {list(self.repair(vector))}"
            )
        values = iter(vector)
        resolution = self.resolution[next(values)]
        stride = self.stem_stride[next(values)]
        stages = []
        for choices in self.stages:
            width = choices.width[next(values)]
            depth = choices.depth[next(values)]
            ratio = choices.ffn_ratio[next(values)]
            layout = choices.layout[next(values)]
            blocks = [next(values) for _ in range(max(choices.depth))][:depth]
            attentions = tuple(choices.attention[number].fitted(width) for number in blocks)
            stages.append(Stage(width=width, blocks=attentions, layout=layout, ffn_ratio=ratio))
        return ArchSpec(
            stages=tuple(stages),
            resolution=resolution,
            stem=Stem(stride=stride),
            head=Head(classes=self.classes),
        )

    def repair(self, vector: Sequence[int]) -> Vector:
        """The vector of a network nearest to any vector of the right length.

        Numbers out of range are clipped; blocks beyond the depth become inactive; an attention that
        does not fit the width or the layout gives way to the next one that does, in order.
        """
        if len(vector) != len(self.decisions):
            raise SpaceError(
                f"a vector of space '{self.name}' has {len(self.decisions)} numbers, got {len(vector)}"
            )
        repaired = [
            min(max(int(number), 0), len(decision.choices) - 1)
            for number, decision in zip(vector, self.decisions, strict=True)
        ]

        def next_in_order(wanted: int, allowed: tuple[int, ...]) -> int:
            return next((option for option in allowed if option > wanted), allowed[0])

        return self._fitted(repaired, next_in_order)

    def contains(self, arch: ArchSpec) -> bool:
        """Whether the network is one of this space."""
        try:
            self.encode(arch)
        except SpaceError:
            return False
        return True

    # --- moves ---

    def sample(self, rng: random.Random) -> ArchSpec:
        """A random network: each decision uniform among the choices that fit those before it."""
        vector = [rng.randrange(len(self.resolution)), rng.randrange(len(self.stem_stride))]
        for choices in self.stages:
            stage = [
                rng.randrange(len(options))
                for options in (choices.width, choices.depth, choices.ffn_ratio, choices.layout)
            ]
            allowed = choices.allowed(choices.width[stage[0]], choices.layout[stage[3]])
            depth = choices.depth[stage[1]]
            vector += stage + [rng.choice(allowed) for _ in range(depth)]
            vector += [INACTIVE] * (max(choices.depth) - depth)
        return self.decode(vector)

    def _fitted(self, vector: Sequence[int], replace: Callable[[int, tuple[int, ...]], int]) -> Vector:
        """The vector with blocks beyond the depth inactive, and `replace(number, allowed)` where an
        attention does not fit its stage's width or layout."""
        fitted = list(vector)
        start = 2
        for choices in self.stages:
            width, depth, _, layout = fitted[start : start + 4]
            allowed = choices.allowed(choices.width[width], choices.layout[layout])
            start += 4
            for number in range(max(choices.depth)):
                if number >= choices.depth[depth]:
                    fitted[start + number] = INACTIVE
                elif fitted[start + number] not in allowed:
                    fitted[start + number] = replace(fitted[start + number], allowed)
            start += max(choices.depth)
        return tuple(fitted)

    # --- rules ---

    def _number(self, name: str, value: Any, choices: tuple[Any, ...]) -> int:
        if value not in choices:
            raise SpaceError(f"{name}: {value} is none of the choices {list(choices)} of space '{self.name}'")
        return choices.index(value)

    def _problems(self) -> Any:
        lists: list[tuple[str, tuple[Any, ...]]] = [
            ("resolution", self.resolution),
            ("stem_stride", self.stem_stride),
        ]
        for index, stage in enumerate(self.stages):
            lists += [
                (f"stages[{index}].{name}", getattr(stage, name))
                for name in ("width", "depth", "ffn_ratio", "layout", "attention")
            ]
        for name, choices in lists:
            if not choices:
                yield f"{name}: there must be at least one choice"
            if len(set(choices)) != len(choices):
                yield f"{name}: a choice may stand there once"
            if isinstance(choices[0] if choices else None, int) and list(choices) != sorted(choices):
                yield f"{name}: numbers must rise, got {list(choices)}"
        for index, stage in enumerate(self.stages):
            yield from _stage_problems(f"stages[{index}]", stage)


@lru_cache(maxsize=1)
def _default() -> SearchSpace:
    """Read once: whoever asks for the default space gets the same object, and what is cached with it."""
    return SearchSpace.from_yaml(Path(__file__).parent / "spaces" / "default.yaml")


def _stage_problems(path: str, stage: StageSpace) -> Any:
    """Every width and layout must have attentions, every attention a width, all different there."""
    for layout in stage.layout:
        if layout not in ("sandwich", "dw-attention-ffn"):
            yield f"{path}.layout: must be sandwich or dw-attention-ffn, got '{layout}'"
    if stage.depth and min(stage.depth) < 1:
        yield f"{path}.depth: must be at least 1, got {min(stage.depth)}"
    used: set[int] = set()
    for width in stage.width:
        for layout in stage.layout:
            allowed = stage.allowed(width, layout)
            used.update(allowed)
            if not allowed:
                yield f"{path}: no attention fits width={width} in layout '{layout}'"
            fitted = [stage.attention[number].fitted(width) for number in allowed]
            if len(set(fitted)) != len(fitted):
                yield f"{path}.attention: two choices are the same attention at width={width}"
    for number, option in enumerate(stage.attention):
        if number not in used:
            yield f"{path}.attention[{number}]: {option.to_dict()} fits no width of the stage"


def _mapping(data: Any, source: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise SpaceError(f"{source}: must be a mapping, got {type(data).__name__}")
    for name in data:
        if name not in known:
            raise SpaceError(f"{source}: no such field '{name}'.{did_you_mean(str(name), known)}")
    return data


def _options(data: Any, source: str) -> tuple[AttentionOption, ...]:
    if not isinstance(data, list) or not data:
        raise SpaceError(f"{source}: must be a list of choices, got {data!r}")
    return tuple(
        AttentionOption.from_dict(option, source=f"{source}[{number}]") for number, option in enumerate(data)
    )


def _fits_one_of(option: AttentionOption, widths: tuple[int, ...]) -> bool:
    for width in widths:
        try:
            option.fitted(width)
        except ArchError:
            continue
        return True
    return False


class _Collecting:
    """Calls a reader and keeps its mistake, so that all mistakes of a file are reported at once."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, read: Callable[..., Any], *arguments: Any) -> Any:
        """What the reader gives; nothing where it found a mistake."""
        try:
            return read(*arguments)
        except SpaceError as error:
            self.problems += str(error).splitlines()
            return ()


def _numbers(data: Any, source: str, low: int, high: int) -> tuple[int, ...]:
    if not isinstance(data, list) or not data or any(type(item) is not int for item in data):
        raise SpaceError(f"{source}: must be a list of whole numbers, got {_short(data)}")
    if len(data) > MAX_CHOICES:
        raise SpaceError(f"{source}: there may be at most {MAX_CHOICES} choices, got {len(data)}")
    if wrong := [item for item in data if not low <= item <= high]:
        raise SpaceError(f"{source}: must be from {low} to {high}, got {_short(wrong[0])}")
    return tuple(data)


def _short(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _texts(data: Any, source: str) -> tuple[str, ...]:
    if not isinstance(data, list) or not data or any(type(item) is not str for item in data):
        raise SpaceError(f"{source}: must be a list of names, got {_short(data)}")
    return tuple(data)
