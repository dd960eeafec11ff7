"""Some of many, evenly spread: where all would be too much to read."""

from __future__ import annotations

__all__ = ["spread_over"]


def spread_over(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
