"""AttentionBias: a learnt number for every distance between two positions of a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AttentionBias"]


class AttentionBias(nn.Module):
    """A table with a row per head and an entry per (|drow|, |dcol|), at |drow| * size + |dcol|.

    As in LeViT and EfficientViT. The table's length is the number of positions, so it depends on
    the window's size.
    """

    index: Tensor

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(rows, size * size))
        position = torch.arange(size * size)
        row, column = position // size, position % size
        distance = (row[:, None] - row).abs() * size + (column[:, None] - column).abs()
        self.register_buffer("index", distance, persistent=False)  # (N, N)

    def forward(self, row: int) -> Tensor:
        """What is added to the scores of one head: (N, N), N = size * size."""
        return self.table[row][self.index]
