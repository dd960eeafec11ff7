"""The runtime "onnxruntime", on its CPU, CUDA and TensorRT providers; threads explicit, no fallback."""

from __future__ import annotations

import os
from typing import Any

MODEL_FORMAT = "onnx"
PACKAGES = ("onnxruntime",)
"""What pip installs on a board that has no runtime yet."""
PRECISIONS = ("fp32", "int8", "fp16")
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""Short names that `prepare` takes as well as ONNX Runtime's own."""

OLDEST = (1, 12)
"""The first release that reads models of opset 17, which they are exported in."""

_PRECISIONS = {
    "CPUExecutionProvider": ("fp32", "int8"),
    "CUDAExecutionProvider": ("fp32",),
    "TensorrtExecutionProvider": ("fp32", "fp16", "int8"),
}
_PACKAGES = {
    "CPUExecutionProvider": "pip install onnxruntime",
    "CUDAExecutionProvider": "pip uninstall -y onnxruntime; pip install onnxruntime-gpu",
    "TensorrtExecutionProvider": "pip uninstall -y onnxruntime; pip install onnxruntime-gpu tensorrt",
}
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        return {
            "version": None,
            "provider": PROVIDERS["cpu"],
            "providers": [],
            "missing": f"pip install onnxruntime ({error})",
        }
    version = str(onnxruntime.__version__)
    too_old = tuple(int(number) for number in version.split(".")[:2]) < OLDEST
    wanted = f"onnxruntime>={OLDEST[0]}.{OLDEST[1]}"
    return {
        "version": version,
        "provider": PROVIDERS["cpu"],
        "providers": list(onnxruntime.get_available_providers()),
        "missing": f"pip install '{wanted}' ({version} does not read opset 17)" if too_old else None,
    }


def prepare(
    model: bytes,
    *,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None = None,
) -> OnnxSession:
    """A session on the provider (the CPU's by default) with exactly `threads` threads.

    `int8` is for a model that is quantised already, `fp16` for TensorRT, which rounds an fp32 model
    itself. Raises ValueError for a precision, batch or provider that does not fit the model or
    ONNX Runtime, RuntimeError when the provider is not there or would leave a node to another.
    """
    wanted = PROVIDERS.get(provider or "cpu", provider or "")
    if wanted not in _PRECISIONS:
        raise ValueError(
            f"onnxruntime: provider must be one of {', '.join([*PROVIDERS, *_PRECISIONS])}, got '{provider}'"
        )
    if precision not in _PRECISIONS[wanted]:
        known = ", ".join(_PRECISIONS[wanted])
        raise ValueError(f"onnxruntime: precision must be one of {known} with {wanted}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"onnxruntime: threads must be at least 1, got {threads}")
    # Quantised nodes are named by their type; there is no onnx package on a board to read them with.
    quantised = b"QuantizeLinear" in model
    if quantised != (precision == "int8"):
        raise ValueError(
            f"onnxruntime: the model's precision must be the requested one, got "
            f"{'a quantised' if quantised else 'an unquantised'} model and {precision}"
        )
    return OnnxSession(model, threads=threads, batch=batch, precision=precision, provider=wanted)


class OnnxSession:
    """One model with inputs and outputs bound once, so that a run is the network and little else."""

    def __init__(
        self,
        model: bytes,
        *,
        threads: int,
        batch: int,
        precision: str = "fp32",
        provider: str = PROVIDERS["cpu"],
    ) -> None:
        import numpy as np
        import onnxruntime as ort

        on_cpu = provider == PROVIDERS["cpu"]
        available = ort.get_available_providers()
        if provider not in available:
            raise RuntimeError(
                f"onnxruntime has no {provider} here, only {', '.join(available)}: {_PACKAGES[provider]}"
            )
        session = ort.InferenceSession(
            model,
            _options(ort, threads, on_cpu),
            providers=[(provider, _provider_options(provider, precision))],
        )
        if session.get_providers()[0] != provider:
            raise RuntimeError(f"onnxruntime runs this on {session.get_providers()[0]}, not {provider}")
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {}
        rng = np.random.default_rng(0)
        for item in session.get_inputs():
            shape = tuple(batch if not isinstance(side, int) else side for side in item.shape)
            if shape and shape[0] != batch:
                raise ValueError(f"the model's batch is {shape[0]}, requested {batch}")
            kind = _TYPES.get(item.type)
            if kind is None:
                raise ValueError(f"onnxruntime: no random input of type {item.type} can be made")
            values = rng.standard_normal(shape)
            if kind in ("uint8", "int8"):
                values = 127 * (values.clip(-1, 1) + (kind == "uint8"))
            self._inputs[item.name] = values.astype(kind)
            if on_cpu:
                self._binding.bind_cpu_input(item.name, self._inputs[item.name])
            else:  # the copy to the device is made here, once
                there = ort.OrtValue.ortvalue_from_numpy(self._inputs[item.name], "cuda", 0)
                self._binding.bind_ortvalue_input(item.name, there)
        for output in session.get_outputs():
            self._binding.bind_output(output.name, "cpu" if on_cpu else "cuda")
        self._on_cpu = on_cpu

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        if not self._on_cpu:
            self._binding.synchronize_outputs()

    def outputs(self) -> list[Any]:
        self.run()
        return list(self._binding.copy_outputs_to_cpu())

    def close(self) -> None:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        del self._session


def _options(ort: Any, threads: int, on_cpu: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that wait spin only where there is more than one to wait for, and not between two runs:
    # there they would take the cores from whatever takes turns with this network.
    spin = "1" if threads > 1 else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spin)
    options.add_session_config_entry("session.force_spinning_stop", spin)
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if not on_cpu:  # a node that the provider lacks is an error, not a run half on the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = 3
    return options


def _provider_options(provider: str, precision: str) -> dict[str, Any]:
    """What makes a provider compute in the precision asked for: TF32, the default, is not fp32."""
    if provider == PROVIDERS["cuda"]:
        return {"use_tf32": "0"}
    if provider == PROVIDERS["tensorrt"]:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no option of its own for it
        return {
            "trt_fp16_enable": str(precision == "fp16"),
            "trt_int8_enable": str(precision == "int8"),
        }
    return {}
