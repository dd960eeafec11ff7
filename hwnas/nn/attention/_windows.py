"""Windows: cuts a feature map into squares, and puts them together again."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Windows"]


class Windows:
    """Non-overlapping windows of a square map; one window and no work where the map fits in it.

    A side that the window does not divide is padded with zeros, bottom and right, and cropped
    afterwards. Every step stays within four dimensions, because ncnn knows no more.
    """

    def __init__(self, side: int, window: int) -> None:
        self.side = side
        self.size = min(window, side)
        """Side of one window."""
        self.per_side = -(-side // self.size)

    def split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B * windows, C, size, size), the windows of an image in reading order."""
        if self.per_side == 1:
            return x
        c, size, n = x.shape[1], self.size, self.per_side
        x = F.pad(x, (0, self.margin, 0, self.margin)) if self.margin else x
        x = x.reshape(-1, c, n, size * size * n).transpose(1, 2)  # (B, rows, C, size * W)
        x = x.reshape(-1, c * size, n, size).transpose(1, 2)  # (B * rows, columns, C * size, size)
        return x.reshape(-1, c, size, size)

    def join(self, x: Tensor) -> Tensor:
        """Undoes `split`: (B * windows, C, size, size) -> (B, C, H, W)."""
        if self.per_side == 1:
            return x
        c, size, n = x.shape[1], self.size, self.per_side
        x = x.reshape(-1, n, c * size, size).transpose(1, 2)  # (B * rows, C * size, columns, size)
        x = x.reshape(-1, n, c, size * size * n).transpose(1, 2)  # (B, C, rows, size * W)
        x = x.reshape(-1, c, n * size, n * size)
        return x[:, :, : self.side, : self.side] if self.margin else x

    @property
    def margin(self) -> int:
        """Rows and columns of zeros that the last windows hold."""
        return self.per_side * self.size - self.side
