"""Recipes as files: a flat dataclass from plain data with every mistake at once, and the ones that ship."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hwnas import yaml_io
from hwnas.errors import FileFormatError, UsageError, did_you_mean

__all__ = ["FORMAT", "from_plain", "from_text", "named_text", "outside", "shipped", "to_plain"]

FORMAT = 1  # 1: the first one

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}

Recipe = TypeVar("Recipe")


def to_plain(recipe: Any) -> dict[str, Any]:
    """Plain data with every field, so that a later change of a default changes no recipe."""
    return {"format": FORMAT, **dataclasses.asdict(recipe)}


def from_plain(cls: type[Recipe], data: Any, *, source: str) -> Recipe:
    """The recipe in plain data; `cls` is a dataclass of int, float, str and bool.

    Raises UsageError with a line for each mistake and its field.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{source}: a recipe must be a mapping, got {type(data).__name__}")
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems: list[str] = []
    values: dict[str, Any] = {}
    version = data.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        newer = type(version) is int and version > FORMAT
        problems.append(
            f"format: this hwnas reads {FORMAT}, got {version!r}" + (": upgrade hwnas" if newer else "")
        )
    for name, value in data.items():
        if name == "format":
            continue
        if name not in specs:
            problems.append(f"{name}: no such field.{did_you_mean(str(name), specs)}")
            continue
        wanted = {"int": int, "float": float, "str": str, "bool": bool}[str(specs[name].type)]
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:  # bool is an int for isinstance
            problems.append(f"{name}: must be {_WORDS[wanted]}, got {value!r} ({type(value).__name__})")
            continue
        values[name] = value
    for name, spec in specs.items():
        if spec.default is dataclasses.MISSING and name not in data:
            problems.append(f"{name}: is required")
    if not problems:
        try:
            return cls(**values)
        except UsageError as error:
            problems = [line.removeprefix("recipe: ") for line in str(error).splitlines()]
    raise UsageError("\n".join(f"{source}: {problem}" for problem in problems))


def from_text(cls: type[Recipe], text: str, *, source: str) -> Recipe:
    """The recipe in the text of a YAML file; raises UsageError as `from_plain` does."""
    try:
        data = yaml_io.parse(text, source=source)
    except FileFormatError as error:
        raise UsageError(str(error)) from None
    return from_plain(cls, data, source=source)


def outside(recipe: object, limits: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """A sentence for each field that is not from its lowest to its highest value."""
    for name, (low, high) in limits.items():
        value = getattr(recipe, name)
        if not low <= value <= high:  # also true of NaN
            yield f"{name}: must be from {low} to {high}, got {value}"


def shipped(folder: Path) -> tuple[str, ...]:
    """The names of the recipes in a folder."""
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def named_text(name_or_path: str, folder: Path) -> str:
    """The text of the recipe of this name in the folder, or of a YAML file; raises UsageError when
    there is none such."""
    names = shipped(folder)
    if name_or_path in names:
        path = folder / f"{name_or_path}.yaml"
    else:
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            raise UsageError(
                f"no recipe '{name_or_path}'.{did_you_mean(name_or_path, names)} "
                f"Known: {', '.join(names)}, or a .yaml file"
            )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"recipe {path}: cannot be read: {reason}") from None
