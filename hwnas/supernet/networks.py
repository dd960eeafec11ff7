"""The networks that shared weights are run in: ordinary ones of `hwnas.nn`, made without initialising."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from hwnas.nn import build
from hwnas.space import ArchSpec
from hwnas.supernet.weights import SharedWeights

__all__ = ["Networks", "empty_network"]

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Images (B, 3, R, R) to logits (B, classes)."""


def empty_network(arch: ArchSpec, device: torch.device | str = "cpu") -> nn.Module:
    """The network of `arch` with whatever numbers its memory held, and fresh statistics of BatchNorm.

    Made where it runs; nothing is drawn for it, so that no generator of random numbers moves.
    """
    with torch.device(device), _NothingDrawn():
        network: nn.Module = build(arch)
    return network.to(memory_format=torch.channels_last)


class _NothingDrawn(TorchFunctionMode):
    """Within it, what `torch.nn.init` is given stays as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


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
