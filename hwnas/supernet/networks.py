"""The networks that shared weights are run in: ordinary ones of `hwnas.nn`, made without initialising."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import cast

import torch
from torch import nn

from hwnas.nn import build
from hwnas.nn.attention._bias import AttentionBias
from hwnas.space import ArchSpec
from hwnas.supernet.weights import SharedWeights

__all__ = ["Networks", "empty_network"]

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Images (B, 3, R, R) to logits (B, classes)."""


def empty_network(arch: ArchSpec, device: torch.device | str = "cpu") -> nn.Module:
    """The network of `arch` with whatever numbers its memory held; BatchNorm's statistics are reset.

    A tenth of the time that `build` takes, which draws random weights for everything.
    """
    with torch.device("meta"):
        network: nn.Module = build(arch)
    network.to_empty(device=device)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
        elif isinstance(module, AttentionBias):  # its index is computed, and in no state dict
            module.index = _distances(round(module.table.shape[1] ** 0.5)).to(device)
    return network.to(memory_format=torch.channels_last)


class Networks:
    """Networks with the shared weights as they are now.

    Those that come up again and again, as the largest and the smallest ones do, stay built, and are
    compiled once if asked for.
    """

    def __init__(
        self, weights: SharedWeights, *, lasting: Iterable[ArchSpec] = (), compile: bool = False
    ) -> None:
        self.weights = weights
        self._compile = compile
        self._lasting = {arch.id for arch in lasting}
        self._built: dict[str, tuple[nn.Module, Forward]] = {}

    def network(self, arch: ArchSpec) -> tuple[nn.Module, Forward]:
        """The network of `arch`, on the weights' device, with copies of their present values; and what
        runs it.

        It is in train mode. Raises UsageError for a network that cannot be cut from the weights.
        """
        found = self._built.get(arch.id)
        if found is None:
            self.weights.require(arch)
            network = empty_network(arch, self.weights.device)
            lasts = arch.id in self._lasting
            forward = cast(Forward, torch.compile(network) if lasts and self._compile else network)
            found = network.train(), forward
            if lasts:
                self._built[arch.id] = found
        self.weights.load_into(found[0], arch)
        return found


@lru_cache(maxsize=64)
def _distances(size: int) -> torch.Tensor:
    with torch.inference_mode(False):  # whoever asks first may only judge; a training needs it, too
        return AttentionBias(1, size).index
