"""A board that takes exactly what a formula says, for tests of building: exporter and link in one."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from typing import Any

from hwnas.board import protocol
from hwnas.board.timing import Rules
from hwnas.measure.remote.link import CellError
from hwnas.predictors.latency import op_features
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.space import ArchSpec, OpSpec, SearchSpace, lower

MS_PER_FEATURE = (4e-7, 6e-7, 2e-6, 2e-7, 1e-8, 0.004)
TRUE_SCALES = {"ffn": 1.2, "dw": 0.9}
OFFSET_MS = 0.05
COLD_MS_PER_MIB, CACHE_MIB = 0.03, 8.0


def own_ms(op: OpSpec) -> float:
    """What an op takes alone on the fake board."""
    return float(sum(op_features(op) * MS_PER_FEATURE)) + 0.002


def network_ms(arch: ArchSpec) -> float:
    """What a network takes on it: kinds have scales, and weights beyond 8 MiB are cold."""
    ops = lower(arch)
    shares = sum(TRUE_SCALES.get(op.kind, 1.05) * own_ms(op) for op in ops)
    weights_mib = sum(op.weight_bytes() for op in ops) / 2**20
    return OFFSET_MS + shares + COLD_MS_PER_MIB * max(weights_mib - CACHE_MIB, 0)


class FakeExporter:
    """Models that hold nothing but how long they take."""

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        return json.dumps({"ms": batch * own_ms(op), "op": op.key}).encode()

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        return json.dumps({"ms": batch * network_ms(arch), "op": None}).encode()


def told(model: bytes) -> dict[str, Any]:
    """What such a model holds; one that travels deflated is inflated."""
    plain = zlib.decompress(model) if isinstance(model, protocol.Deflated) else model
    found: dict[str, Any] = json.loads(plain)
    return found


class FakeLink:
    """An agent that answers at once.

    `disturb(n)` is what the n-th timing is multiplied with, and the reference network beside it.
    """

    def __init__(
        self,
        *,
        disturb: Callable[[int], float] = lambda n: 1.0,
        cpu_share: Callable[[int], float] = lambda n: 1.0,
        fails: tuple[str, ...] = (),
        sleep_s: float = 0.0,
        version: str = "1.0",
    ) -> None:
        self.disturb, self.cpu_share, self.fails = disturb, cpu_share, fails
        self.sleep_s, self.version = sleep_s, version
        self.timings = 0
        self.starts = 0
        self.references: list[bytes] = []
        self._reference_ms = 0.0

    def start(self) -> FakeLink:
        """For `build_table(start=...)`: the same board, a fresh process."""
        self.starts += 1
        return self

    def hello(self) -> dict[str, Any]:
        return {
            "environment": {"board": "Fake Board", "cpu": "one", "cores": 1},
            "runtime": {"version": self.version, "provider": "cpu", "providers": ["cpu"], "missing": None},
        }

    def reference(self, model: bytes, *, profile: DeviceProfile) -> None:
        self.references.append(model)
        if model:
            self._reference_ms = told(model)["ms"]

    def measure(
        self, model: bytes, *, rules: Rules, profile: DeviceProfile, beside: bool = False
    ) -> dict[str, Any]:
        asked = told(model)
        if asked["op"] in self.fails:
            raise CellError("out of memory")
        time.sleep(self.sleep_s)
        number = self.timings
        self.timings += 1
        slowed = self.disturb(number)
        ms = asked["ms"] * slowed
        return {
            "reference_ms": self._reference_ms * slowed,
            "reference_ns": [round(self._reference_ms * slowed * 1e6)] * 6,
            "cold_ns": [round(ms * 1.2e6)] * 5,
            "reach": 0.0,
            "samples_ns": [round(ms * 1e6)] * 5,
            "warmup_ns": [round(ms * 1.5e6)],
            "runs_per_repeat": 1,
            "steady": True,
            "cpu_share": self.cpu_share(number),
            "throttled": [],
            "median_ms": ms,
            "low_ms": ms,
            "high_ms": ms,
            "p95_ms": ms * 1.01,
        }

    def close(self) -> None:
        pass


def small_space() -> SearchSpace:
    """A space of a few dozen ops and some thousand networks."""
    return SearchSpace.from_dict(
        {
            "format": 1,
            "name": "small",
            "resolution": [64],
            "classes": 10,
            "attention": ["none", {"type": "reuse", "heads": 2, "kernels": [3, 5]}, {"type": "element-wise"}],
            "stages": [
                {"width": [64, 128], "depth": [1, 2], "layout": ["sandwich", "dw-attention-ffn"]},
                {
                    "width": [128, 192, 256],
                    "depth": [1, 2],
                    "ffn_ratio": [2, 3],
                    "layout": ["dw-attention-ffn"],
                },
            ],
        }
    )
