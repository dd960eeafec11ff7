"""Deployment: a trained network as a checked file for a runtime, and the models that are timed.

The package itself is callable: `hwnas.export(...)` is the function of the public API (`hwnas.api`).
"""

from hwnas import plugins

__all__: tuple[str, ...] = ()

plugins.callable_package(__name__)
