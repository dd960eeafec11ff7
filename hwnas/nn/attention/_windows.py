"""Windows: cuts a feature map into squares, and puts them together again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Windows"]


class Windows:
    """Non-overlapping windows of a square map; one window and no work where the map fits in it.

    A side that the window does not divide is padded with zeros, bottom and right, and cropped
    afterwards. Cutting and joining stays within four dimensions, because ncnn knows no more; ONNX
    Runtime takes as long for it as for the usual reshape to six, and longer for strided reshapes to four.
    """

    def __init__(self, side: int, window: int) -> None:
        self.side = side
        self.size = min(window, side)
        """Side of one window."""
        self.per_side = -(-side // self.size)

    def split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (windows * B, C, size, size), the windows in reading order."""
        if self.per_side == 1:
            return x
        x = F.pad(x, (0, self.margin, 0, self.margin)) if self.margin else x
        rows = x.split(self.size, dim=2)
        return torch.cat([window for row in rows for window in row.split(self.size, dim=3)])

    def join(self, x: Tensor) -> Tensor:
        """Undoes `split`: (windows * B, C, size, size) -> (B, C, H, W)."""
        if self.per_side == 1:
            return x
        n = self.per_side
        windows = x.chunk(n * n)
        rows = [torch.cat(windows[start : start + n], dim=3) for start in range(0, n * n, n)]
        x = torch.cat(rows, dim=2)
        return x[:, :, : self.side, : self.side] if self.margin else x

    @property
    def margin(self) -> int:
        """Rows and columns of zeros that the last windows hold."""
        return self.per_side * self.size - self.side
