"""Rows as a pandas data frame, and as an HTML table for Jupyter."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwnas import plugins

if TYPE_CHECKING:
    import pandas

__all__ = ["as_frame", "as_html"]


def as_frame(rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str] | None = None) -> pandas.DataFrame:
    """The rows as a data frame, a column for each key. Raises MissingPackageError without pandas."""
    loaded = plugins.require("pandas", extra="frames")
    frame: pandas.DataFrame = loaded.DataFrame(
        [dict(row) for row in rows], columns=None if columns is None else list(columns)
    )
    return frame


def as_html(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts with a line above it."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<p>{html.escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
