"""Runtimes: what executes an exported network. `hwnas/runtimes/<name>.py` *is* the runtime <name>.

A plug-in is a module with what `Runtime` asks for. It runs on the board, loaded from its file
alone: Python 3.9 syntax, the standard library, numpy and the runtime's own package, nothing of
hwnas. It never falls back: a setting that it cannot honour is an error.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Runtime", "Session"]


class Session(Protocol):
    """One model, loaded and ready, with inputs of its own.

    Float inputs are numpy's `default_rng(0).standard_normal`, so that runtimes can be compared.
    """

    def run(self) -> object:
        """Runs the model once, to the end: on a device that works on its own, waits for it."""
        ...

    def outputs(self) -> list[Any]:
        """Runs the model once and gives its outputs as numpy arrays; not for timing."""
        ...

    def close(self) -> None:
        """Gives back what the model holds."""
        ...


class Runtime(Protocol):
    """What a plug-in module has."""

    MODEL_FORMAT: str
    """What `prepare` takes, by the name of its exporter: a file of `hwnas/nn/formats`, as `onnx`."""

    PRECISIONS: tuple[str, ...]
    """All that `prepare` takes with some provider, as `fp32`."""

    PACKAGES: tuple[str, ...]
    """What pip installs on a board that lacks the runtime, as `onnxruntime`."""

    def probe(self) -> dict[str, Any]:
        """What is there: {"version", "provider", "providers", "missing"}.

        `version` is text or None, `provider` what `prepare` runs on unless told otherwise,
        `providers` all there are, `missing` None or the command that fixes it. Never raises for a
        runtime that is not installed: that is what `missing` says.
        """
        ...

    def prepare(
        self,
        model: bytes,
        *,
        threads: int,
        batch: int,
        precision: str,
        provider: str | None = None,
    ) -> Session:
        """A session for the model, whose batch is fixed in it and checked here, like its precision.

        `provider` is one that `probe` lists, or None for its default. Raises ValueError for a
        setting that the runtime or the model cannot honour, RuntimeError when the provider is not
        there (with the command that brings it), or when the model would run elsewhere than asked.
        """
        ...
