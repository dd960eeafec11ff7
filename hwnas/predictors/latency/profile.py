"""DeviceProfile: a board *and* how a network runs on it. Two profiles never mix."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from hwnas.errors import UsageError

__all__ = ["DeviceProfile"]


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

    def __post_init__(self) -> None:
        for name in ("threads", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}")

    def differences(self, **wanted: object) -> tuple[str, ...]:
        """What differs from the fields asked for, as `threads: the table has 1, asked for 2`."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in wanted:
            if name not in known:
                raise TypeError(f"a device profile has no field '{name}'")
        return tuple(
            f"{name}: the table has {getattr(self, name)}, asked for {value}"
            for name, value in wanted.items()
            if value is not None and getattr(self, name) != value
        )

    def check(self, *, table: str, allow_mismatch: bool = False, **wanted: object) -> None:
        """Raises UsageError when a field asked for differs; None means that any will do."""
        differences = self.differences(**wanted)
        if differences and not allow_mismatch:
            raise UsageError(
                f"the table '{table}' is of another configuration: {'; '.join(differences)}. "
                "Choose another --device, or give --allow-mismatch"
            )
