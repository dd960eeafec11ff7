"""Measuring: what is timed on a device, in which order, and how samples become a latency table.

The package itself is callable: `hwnas.measure(...)` is the function of the public API (`hwnas.api`).
"""

from hwnas import plugins

__all__: tuple[str, ...] = ()

plugins.callable_package(__name__)
