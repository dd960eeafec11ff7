"""The report's look: its style sheet, and which colour a kind of op or attention has in it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["COLOURS", "colour", "style_sheet"]

COLOURS = {
    "reuse": "c1",
    "single-head": "c2",
    "cascaded-group": "c3",
    "element-wise": "c4",
    "dual-head": "c4",
    "ffn": "c5",
    "conv-ffn": "c5",
    "dw": "c6",
    "merge": "c7",
    "conv-pool": "c7",
    "stem": "c8",
    "conv-pool-stem": "c8",
    "head": "c9",
}
"""The class that colours an op kind or an attention type, in charts and legends alike."""


def colour(kind: str) -> str:
    """The class of a kind; grey for one that has none."""
    return COLOURS.get(kind, "c0")


def style_sheet() -> str:
    """The text of `page.css`."""
    return (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
