"""Text of others on a terminal: without what a terminal would obey."""

from __future__ import annotations

import re
from typing import overload

__all__ = ["plain"]

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, moves, erasing
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, the clipboard
    r"|\x9b[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@overload
def plain(text: str, *, most: int | None = None) -> str: ...
@overload
def plain(text: None, *, most: int | None = None) -> None: ...
def plain(text: str | None, *, most: int | None = None) -> str | None:
    """The text without escape sequences, control characters but newline and tab, and marks that turn its
    direction; bytes that were not UTF-8 are escaped. `most` is how many characters are kept.

    >>> plain("a\\x1b[31mred\\x1b[0m\\x07")
    'ared'
    """
    if text is None:
        return None
    if not text.isprintable():
        text = _CONTROLS.sub("", _ESCAPES.sub("", text)).encode(errors="backslashreplace").decode()
    return text if most is None or len(text) <= most else f"{text[:most]}..."
