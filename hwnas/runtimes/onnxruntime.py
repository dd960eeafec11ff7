"""The runtime "onnxruntime", on its CPU provider: threads explicit, no silent fallback."""

from __future__ import annotations

from typing import Any

MODEL_FORMAT = "onnx"
PROVIDER = "CPUExecutionProvider"
PRECISIONS = ("fp32",)

_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        return {
            "version": None,
            "providers": [],
            "missing": f"pip install onnxruntime ({error})",
        }
    return {
        "version": str(onnxruntime.__version__),
        "provider": PROVIDER,
        "providers": list(onnxruntime.get_available_providers()),
        "missing": None,
    }


def prepare(model: bytes, *, threads: int, batch: int, precision: str) -> OnnxSession:
    """A session on the CPU with exactly `threads` threads.

    Raises ValueError for a precision or batch that the model does not have, RuntimeError when the
    session does not run on the provider asked for.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"onnxruntime: precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"onnxruntime: threads must be at least 1, got {threads}")
    return OnnxSession(model, threads=threads, batch=batch)


class OnnxSession:
    """One model with inputs and outputs bound once, so that a run is the network and little else."""

    def __init__(self, model: bytes, *, threads: int, batch: int, provider: str = PROVIDER) -> None:
        import numpy as np
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Threads that wait spin only where there is more than one to wait for.
        spin = "1" if threads > 1 else "0"
        options.add_session_config_entry("session.intra_op.allow_spinning", spin)
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        available = ort.get_available_providers()
        if provider not in available:
            raise RuntimeError(f"onnxruntime has no {provider} here, only {', '.join(available)}")
        self._session = ort.InferenceSession(model, options, providers=[provider])
        if self._session.get_providers()[0] != provider:
            raise RuntimeError(f"onnxruntime runs this on {self._session.get_providers()[0]}, not {provider}")
        self._binding = self._session.io_binding()
        rng = np.random.default_rng(0)
        self._inputs = {}
        for item in self._session.get_inputs():
            shape = tuple(batch if not isinstance(side, int) else side for side in item.shape)
            if shape and shape[0] != batch:
                raise ValueError(f"the model's batch is {shape[0]}, asked for {batch}")
            kind = _TYPES.get(item.type)
            if kind is None:
                raise ValueError(f"onnxruntime: no random input of type {item.type} can be made")
            self._inputs[item.name] = rng.standard_normal(shape).astype(kind)
            self._binding.bind_cpu_input(item.name, self._inputs[item.name])
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, "cpu")

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def close(self) -> None:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._session
