"""DeviceProfile: a board *and* how a network runs on it. Two profiles never mix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwnas.errors import UsageError

__all__ = ["INFERABLE", "DeviceProfile"]

INFERABLE = ("runtime", "runtime_version", "provider", "threads", "batch", "precision")
"""Fields of a profile that may be inferred instead of known."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What a latency is a latency of: change one field and every millisecond changes."""

    board: str
    """The board in words, as `Raspberry Pi 4B` or a CPU's model name."""
    runtime: str
    """The runtime plug-in's name, as `onnxruntime`."""
    runtime_version: str = "unknown"
    """The runtime's version; `unknown` where a publication does not say."""
    provider: str = "cpu"
    """The part of the board that computes, as the runtime calls it."""
    threads: int = 1
    """Threads that one network runs on."""
    batch: int = 1
    """Images a run; milliseconds are for the whole batch."""
    precision: str = "fp32"
    """What weights and activations are computed in."""
    inferred: Mapping[str, str] = field(default_factory=dict)
    """Fields that the source of an estimated table does not state: what their value is inferred from."""

    def __post_init__(self) -> None:
        for name in self.inferred:
            if name not in INFERABLE:
                raise UsageError(f"inferred may name {', '.join(INFERABLE)}, got '{name}'")
        for name in ("threads", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")

    def shown(self, name: str) -> str:
        """A field for a reader: `4`, or `unknown, inferred: 4` where no source states it."""
        value = str(getattr(self, name))
        if name not in self.inferred:
            return value
        return "unknown" if value == "unknown" else f"unknown, inferred: {value}"

    def sentence(self) -> str:
        """The profile for a reader, with what is inferred marked."""
        named = ("provider", "threads", "batch", "precision")
        runtime = self.shown("runtime") + f" {self.runtime_version}".removesuffix(" unknown")
        return f"{self.board}, runtime {runtime}, " + ", ".join(
            f"{name} {self.shown(name)}" for name in named
        )

    def settings(self) -> dict[str, Any]:
        """The fields that a run is made with, as plain data: all but `inferred`."""
        return {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name != "inferred"
        }

    def images_per_s(self, run_ms: float) -> float:
        """Throughput: a run takes so many milliseconds and holds the whole batch."""
        return 1000 * self.batch / run_ms

    def run_ms(self, images_per_s: float) -> float:
        """Milliseconds of a run, the whole batch, at this throughput."""
        return 1000 * self.batch / images_per_s

    def differences(self, **wanted: object) -> tuple[str, ...]:
        """What differs from the fields asked for, as `threads: the table has 1, requested 2`."""
        known = self.settings()
        for name in wanted:
            if name not in known:
                raise TypeError(f"a device profile has no field '{name}'")
        return tuple(
            f"{name}: the table has {known[name]}, requested {value}"
            for name, value in wanted.items()
            if value is not None and known[name] != value
        )

    def check(self, *, table: str, allow_mismatch: bool = False, **wanted: object) -> None:
        """Raises UsageError when a field asked for differs; None means that any will do."""
        differences = self.differences(**wanted)
        if differences and not allow_mismatch:
            raise UsageError(
                f"the table '{table}' is of another configuration: {'; '.join(differences)}. "
                "Choose another --device, or give --allow-mismatch"
            )
