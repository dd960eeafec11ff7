"""One op on a feature map of any shape: what each kind needs beside the square that it was built for.

A classifier sees squares of one size; a detector sees photos as they are. What copes by itself, and what
is done for the rest:

    convolutions, FFNs, merges     slide: nothing
    single-head                    every position sees every other and none is told where it is: nothing,
                                   but the work grows with the square of the positions
    reuse, cascaded-group          look within windows with a learnt bias for each distance in them. The
                                   windows keep their side, as many as cover the map, rows and columns
                                   apart; the last ones are filled up with zeros, as on a square
    element-wise                   K^T swaps height and width: the map is filled up with zeros to a
                                   square and cut again. Where nothing is swapped: nothing
    conv-pool                      has no padding, so that each map loses a row and a column, which shifts
                                   what is seen against the anchors: here it is padded by one
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["run_op"]


def run_op(module: nn.Module, x: Tensor) -> Tensor:
    """What the op gives for a map of any shape: (B, C, H, W) -> (B, C', H', W').

    On a square that the op was built for it is what the module gives, but for conv-pool's border.
    H' = H, or ceil(H / 2) where the op downsamples; W' alike.
    """
    name = type(module).__name__
    if name == "ConvPool":
        x = F.pad(x, (1, 1, 1, 1))
    elif hasattr(module, "windows"):
        return _within_windows(module, x)
    elif getattr(module, "swap_key", False) and x.shape[2] != x.shape[3]:
        return _within_square(module, x)
    return cast(Tensor, module(x))


def _within_windows(attention: Any, x: Tensor) -> Tensor:
    """x plus the attention within each window, (B, C, H, W) -> the same."""
    batch, channels, height, width = x.shape
    size: int = attention.windows.size
    down, across = -(-height // size), -(-width // size)
    attend: Callable[[Tensor], Tensor] = attention.attend
    padded = F.pad(x, (0, across * size - width, 0, down * size - height))
    cut = padded.view(batch, channels, down, size, across, size).permute(0, 2, 4, 1, 3, 5)
    seen = attend(cut.reshape(-1, channels, size, size))  # (B * windows, C, size, size)
    joined = seen.view(batch, down, across, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return x + joined.reshape(batch, channels, down * size, across * size)[:, :, :height, :width]


def _within_square(attention: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    side = max(height, width)
    square: Tensor = attention(F.pad(x, (0, side - width, 0, side - height)))
    return square[:, :, :height, :width]
