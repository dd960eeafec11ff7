"""Images at another size, for spaces with several resolutions: decoded once, at the largest."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["resized"]


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 3, side, side); the same object where that is its size."""
    if images.shape[-1] == side:
        return images
    smaller = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return smaller.contiguous(memory_format=torch.channels_last)
