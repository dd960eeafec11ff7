"""Reading YAML that may be wrong or hostile: bounded, without surprises, one clear error.

Differs from `yaml.safe_load`: a key given twice is an error, aliases are refused (they make
bombs), and so are tags; size, nesting, the number of values and numbers themselves are bounded, and
`12:30` or `yes` stay strings instead of becoming 750 and true.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from hwnas.errors import FileFormatError, UsageError
from hwnas.io.files import read_bytes

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "dump", "parse", "read", "read_text"]

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 24
MAX_VALUES = 300_000
"""Keys and values of one file. The largest table that ships has a tenth of that; each takes 15 us to read."""
MAX_NUMBER = 2**64
"""Whole numbers up to this one."""
TOO_DEEP = f"nesting may be at most {MAX_DEPTH} deep"

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader with YAML 1.2's plain scalars and without duplicate keys."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                line = key_node.start_mark.line + 1
                raise FileFormatError(f"a key must be a name, got a list or a mapping in line {line}")
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):  # no file of hwnas has others, and texts can be put in order
                line = key_node.start_mark.line + 1
                raise FileFormatError(f"a key must be a text, got {key!r:.40} in line {line}: quote it")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise FileFormatError(f"a key may appear once, got '{key}' again in line {line}")
            seen.add(key)
        result: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return result


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    value = int(loader.construct_yaml_int(node))
    if abs(value) > MAX_NUMBER:
        raise FileFormatError(f"a whole number is at most {MAX_NUMBER}, got {node.value[:20]}...")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class _PlainDumper(_Dumper):  # type: ignore[misc]
    """The safe dumper without aliases; quotes every text that `_Loader` would read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    for _class in (_Loader, _PlainDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str, *, source: str) -> Any:
    """The plain data that `text` holds; `source` names it in errors.

    Raises FileFormatError, with one line that names the source, when the text is not YAML, is
    too large or too deep, has aliases, tags or duplicate keys.
    """
    if len(text) > MAX_BYTES:
        raise FileFormatError(f"{source}: at most {MAX_BYTES} bytes are read, got {len(text)}")
    try:
        depth = values = 0
        for event in yaml.parse(text, Loader=_Loader):
            values += isinstance(event, yaml.NodeEvent)
            if values > MAX_VALUES:
                raise FileFormatError(f"at most {MAX_VALUES} values are read, and it has more")
            if (tag := getattr(event, "tag", None)) is not None:
                raise FileFormatError(f"tags ({tag[:40]}) are not read, write the plain value")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise FileFormatError(TOO_DEEP)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                raise FileFormatError(f"aliases (*{event.anchor}) are not read, write the value out")
        return yaml.load(text, Loader=_Loader)
    except FileFormatError as error:
        raise FileFormatError(f"{source}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), "") or repr(error)
        if "nesting depth" in problem:  # libyaml reads ahead, and may meet a limit of its own before
            raise FileFormatError(f"{source}: {TOO_DEEP}") from None
        raise FileFormatError(f"{source}: not valid YAML{where}: {problem}") from None


def read(path: Path) -> Any:
    """The plain data of the file; raises FileFormatError as `parse` does, and when unreadable."""
    return parse(read_text(path), source=str(path))


def read_text(path: Path) -> str:
    """The text of a YAML file, to be parsed; raises FileFormatError."""
    try:
        return read_bytes(path, max_bytes=MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"{path}: cannot be read: not UTF-8 text") from None


def dump(data: Any) -> str:
    """`data` as YAML: keys in the order given, short lists on one line, no aliases.

    Raises UsageError for a name that is not UTF-8, which YAML cannot hold.
    """
    try:
        return str(
            yaml.dump(
                data,
                Dumper=_PlainDumper,
                sort_keys=False,
                default_flow_style=None,
                width=100,
                allow_unicode=True,
            )
        )
    except UnicodeEncodeError as error:
        raise UsageError(
            f"a name is not UTF-8, and cannot be recorded: {error.object[:200]!r}. Rename the file or folder"
        ) from None
