"""fit(table, width): a table that can be read on the terminal there is.

rich shrinks every column in turn, down to nothing. Here no column gets narrower than its longest word:
lines between columns go first, then columns from the right, which are named below the table.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Column, Table

__all__ = ["fit"]

KEPT = 2
"""The first columns, which say what a row is about."""
FOLDED = 12
"""Characters at least of a column that may break within a word."""


def fit(table: Table, width: int) -> None:
    """Change the table so that it is at most `width` wide, where it is wider."""
    if _needed(table, whole=True) <= width:
        return
    table.box, table.pad_edge, table.header_style = None, False, "bold"
    dropped = []
    while _needed(table, whole=False) > width and len(table.columns) > KEPT:
        dropped.append(str(table.columns.pop().header))
    for column in table.columns:
        column.min_width = _least(column, whole=False)
        column.header = textwrap.fill(str(column.header), column.min_width, break_long_words=False)
    if dropped:
        table.caption = f"Not shown at this width: {', '.join(reversed(dropped))}"
        table.caption_justify = "left"


def _needed(table: Table, *, whole: bool) -> int:
    between = 2 if table.box is None else 3
    return sum(_least(column, whole=whole) + between for column in table.columns) + (whole and 1)


def _least(column: Column, *, whole: bool) -> int:
    """The width of a column's longest line, or else of its longest word; a header's line may always wrap."""
    lines = [line for cell in column._cells for line in str(cell).splitlines()]
    words = str(column.header).split()
    if whole:
        words.append(str(column.header))
    for line in lines:
        words += [line] if whole or column.no_wrap else line.split()
    longest = max(map(len, words), default=0)
    return min(longest, FOLDED) if column.overflow == "fold" and not whole else longest
