"""Networks in torch: built from an ArchSpec, filled with published weights, folded.

Importing this loads no torch; the names below do, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas import plugins

if TYPE_CHECKING:
    from hwnas.nn.folding import fold
    from hwnas.nn.network import Network, build
    from hwnas.nn.published import load_published

__all__ = ["Network", "build", "fold", "load_published"]

_HOMES = {
    "Network": "network",
    "build": "network",
    "fold": "folding",
    "load_published": "published",
}

__getattr__ = plugins.lazy_names(__name__, _HOMES, needs=("torch",), extra="torch")
