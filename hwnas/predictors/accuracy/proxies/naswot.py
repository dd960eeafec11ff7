"""NASWOT: how differently the untrained network's activations switch for different images.

Mellor et al., Neural Architecture Search without Training, ICML 2021, equations 1 to 3: each image has
a binary code, one bit for each activation (whether its input is above 0), and the score is the
log-determinant of the matrix of how many bits each two images share. GELU counts like ReLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["score", "shared_bits"]

ACTIVATIONS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default, torch.ops.aten.gelu.default)


def score(network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """ln |det K| over the images of all batches, seen as one; -inf when two images share every bit."""
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad(), _Switches(len(images)) as switches:
        network(images)
    return float(torch.linalg.slogdet(switches.kernel).logabsdet)


def shared_bits(codes: Tensor) -> Tensor:
    """How many bits each two of the codes, (B, bits) of 0 and 1, have alike: (B, B)."""
    codes = codes.float()  # counts are exact up to 2^24 bits of one layer
    others = 1 - codes
    return (codes @ codes.T + others @ others.T).double()


class _Switches(TorchDispatchMode):
    """Adds up, while it is entered, the shared bits of every activation that runs."""

    def __init__(self, images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel = torch.zeros(images, images, dtype=torch.float64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ACTIVATIONS:
            self.kernel += shared_bits(self._by_image(args[0] > 0))
        return func(*args, **(kwargs or {}))

    def _by_image(self, on: Tensor) -> Tensor:
        """(images, bits); windows, which stand before the images, count among an image's bits."""
        images = len(self.kernel)
        return on.reshape(len(on) // images, images, -1).transpose(0, 1).flatten(1)
