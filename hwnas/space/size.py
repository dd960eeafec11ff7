"""Bands of sizes: networks of about as many MACs, which may be compared by what they have learnt."""

from __future__ import annotations

import math

__all__ = ["band"]


def band(macs: int) -> int:
    """The band, a factor of 2 wide, that a network of so many MACs is in."""
    return math.floor(math.log2(macs))
