"""Zero-cost proxies, a file each: a number of an untrained network that should rise with its accuracy.

The contract of `proxies/<name>.py` (or of an entry point in the group
`hwnas.predictors.accuracy.proxies`): `score(network, batches) -> float`. `network` is a fresh one with
no branch that starts at zero (`open_branches`), in train mode, on the CPU; the proxy may change it. `batches`
are pairs of images (B, 3, R, R), normalised, and labels (B,). Higher is better, on any scale; sums over
many weights or layers are given as logarithms, so that scores of networks of any size compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from hwnas import plugins

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Proxy", "load_proxy", "proxy_names"]

FOLDER = "predictors/accuracy/proxies"


class Proxy(Protocol):
    """What a file here has to have."""

    def score(self, network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
        """The network's number; higher is better."""
        ...


def proxy_names() -> tuple[str, ...]:
    """All proxies, sorted; nothing is imported."""
    return plugins.names(FOLDER)


def load_proxy(name: str) -> Proxy:
    """The proxy of that name; raises UsageError, with the nearest name, when there is none."""
    return cast(Proxy, plugins.load(FOLDER, name))
