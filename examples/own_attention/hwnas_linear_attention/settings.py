"""What an architecture file says of linear attention, and the graph nodes that it runs. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from hwnas.space.op_kinds import Trace


@dataclass(frozen=True, slots=True)
class Settings:
    """Every position reads one matrix of keys times values, instead of all other positions."""

    type: ClassVar[str] = "linear"

    key_dim: int = 16
    """Channels of the query and the key."""

    def problems(self, width: int) -> Iterator[str]:
        """Every broken rule, in words."""
        if not 1 <= self.key_dim <= width:
            yield f"key_dim: must be from 1 to width={width}, got {self.key_dim}"


def nodes(*, c: int, side: int, key_dim: int = 16) -> Trace:
    """The nodes of one attention on a map of `c` channels and `side` pixels, as `module.py` computes it."""
    trace, tokens = Trace((1, c, side, side)), side * side
    trace.conv(2 * key_dim + c, 1)
    trace.node("reshape", (1, 2 * key_dim + c, tokens))
    trace.node("split")
    trace.node("softmax", (1, key_dim, tokens))  # of the query, over channels
    trace.node("softmax", (1, key_dim, tokens))  # of the key, over positions
    trace.node("transpose", (1, tokens, key_dim))
    trace.node("matmul", (1, c, key_dim), reads=tokens * (c + key_dim), macs=c * key_dim * tokens)
    trace.node("matmul", (1, c, tokens), reads=key_dim * (c + tokens), macs=c * key_dim * tokens)
    trace.node("reshape", (1, c, side, side))
    trace.relu()
    trace.conv(c, 1)
    trace.residual()
    return trace
