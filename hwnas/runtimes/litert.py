"""The runtime "litert" (LiteRT, earlier TensorFlow Lite), on the CPU by XNNPACK: fp32, threads explicit."""

from __future__ import annotations

from typing import Any

MODEL_FORMAT = "litert"
PROVIDER = "cpu"
PRECISIONS = ("fp32",)
PACKAGES = ("ai-edge-litert",)
"""What a board needs; converting needs litert-torch, on the host alone."""


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import importlib.metadata

        from ai_edge_litert import interpreter  # noqa: F401

        version = importlib.metadata.version("ai-edge-litert")
    except ImportError as error:
        return {
            "version": None,
            "provider": PROVIDER,
            "providers": [],
            "missing": f"pip install ai-edge-litert ({error})",
        }
    return {"version": version, "provider": PROVIDER, "providers": [PROVIDER], "missing": None}


def prepare(
    model: bytes, *, threads: int, batch: int, precision: str, provider: str | None = None
) -> LitertSession:
    """A session on the CPU with exactly `threads` threads.

    Raises ValueError for a setting that it does not have, and for a model that it can't read.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"litert: precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"litert: threads must be at least 1, got {threads}")
    if provider not in (None, PROVIDER):
        raise ValueError(f"litert: provider must be {PROVIDER}, got '{provider}'")
    return LitertSession(model, threads=threads, batch=batch)


class LitertSession:
    """One model and its input, which lies in the interpreter's own memory. XNNPACK is on by default."""

    def __init__(self, model: bytes, *, threads: int, batch: int) -> None:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        self._inputs = self._interpreter.get_input_details()
        for item in self._inputs:
            shape = tuple(int(side) for side in item["shape"])
            if shape[0] != batch:
                raise ValueError(f"the model's batch is {shape[0]}, asked for {batch}")
            values = rng.standard_normal(shape).astype(item["dtype"])
            self._interpreter.set_tensor(item["index"], values)

    def run(self) -> None:
        self._interpreter.invoke()

    def compute(self, images: Any) -> Any:
        """What the network gives for its one input, both numpy arrays."""
        self._interpreter.set_tensor(self._inputs[0]["index"], images)
        return self.outputs()[0]

    def outputs(self) -> list[Any]:
        self.run()
        return [
            self._interpreter.get_tensor(item["index"]) for item in self._interpreter.get_output_details()
        ]

    def close(self) -> None:
        self._interpreter = None
