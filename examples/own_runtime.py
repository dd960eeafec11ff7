"""A runtime of one's own: ONNX's reference implementation in numpy, slow and exact.

Installed with an entry point `onnx-reference = "own_runtime"` in the group `hwnas.runtimes`, it is measured
with `hwnas table build --runtime onnx-reference`. It runs on boards, loaded from this file alone: it imports
nothing of hwnas and keeps to Python 3.9.
"""

from __future__ import annotations

from typing import Any

MODEL_FORMAT = "onnx"
PRECISIONS = ("fp32",)
PACKAGES = ("onnx",)
"""What pip installs on a board that lacks it."""
PROVIDER = "numpy"


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import onnx
    except ImportError as error:
        missing = f"pip install onnx ({error})"
        return {"version": None, "provider": PROVIDER, "providers": [], "missing": missing}
    return {"version": onnx.__version__, "provider": PROVIDER, "providers": [PROVIDER], "missing": None}


def prepare(
    model: bytes, *, threads: int, batch: int, precision: str, provider: str | None = None
) -> ReferenceSession:
    """A session for the model. Raises ValueError for a setting that numpy cannot honour."""
    if precision not in PRECISIONS:
        raise ValueError(f"onnx-reference: precision must be fp32, got '{precision}'")
    if provider not in (None, PROVIDER):
        raise ValueError(f"onnx-reference: provider must be {PROVIDER}, got '{provider}'")
    if threads != 1:
        raise ValueError(f"onnx-reference: threads must be 1, got {threads}")
    return ReferenceSession(model, batch)


class ReferenceSession:
    """One model, with random inputs of its own."""

    def __init__(self, model: bytes, batch: int) -> None:
        import numpy as np
        import onnx
        from onnx.reference import ReferenceEvaluator

        graph = onnx.load_from_string(model)
        self._evaluator: Any = ReferenceEvaluator(graph)
        rng = np.random.default_rng(0)
        self._inputs = {}
        for item in graph.graph.input:
            sides = [side.dim_value or batch for side in item.type.tensor_type.shape.dim]
            if sides[0] != batch:
                raise ValueError(f"the model's batch is {sides[0]}, requested {batch}")
            self._inputs[item.name] = rng.standard_normal(sides).astype("float32")

    def run(self) -> object:
        return self.outputs()

    def outputs(self) -> list[Any]:
        found: list[Any] = self._evaluator.run(None, self._inputs)
        return found

    def close(self) -> None:
        del self._evaluator
