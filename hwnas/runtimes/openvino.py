"""The runtime "openvino" on the CPU: one stream, latency first, fp32 stays fp32.

It reads ONNX, and its own two files in one piece: a line `hwnas openvino 1`, a line with the length of the
.xml file in bytes, then the .xml file and the .bin file.
"""

from __future__ import annotations

from typing import Any

MODEL_FORMAT = "onnx"
PACKAGES = ("openvino",)
"""What pip installs on a board that has no runtime yet."""
PRECISIONS = ("fp32", "int8")
PROVIDER = "cpu"

_MAGIC = b"hwnas openvino 1\n"


def probe() -> dict[str, Any]:
    """Version and devices, or the command that installs what is missing."""
    try:
        import openvino
    except ImportError as error:
        return {
            "version": None,
            "provider": PROVIDER,
            "providers": [],
            "missing": f"pip install openvino ({error})",
        }
    return {
        "version": str(openvino.__version__).partition("-")[0],
        "provider": PROVIDER,
        "providers": [PROVIDER],
        "missing": None,
    }


def prepare(
    model: bytes,
    *,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None = None,
) -> OpenvinoSession:
    """A session on the CPU with exactly `threads` threads and one stream.

    `int8` is for a model that is quantised already. Raises ValueError for a provider, precision or
    batch that does not fit the model or OpenVINO, RuntimeError when OpenVINO takes other settings
    than asked for.
    """
    if provider not in (None, PROVIDER):
        raise ValueError(f"openvino: provider must be {PROVIDER}, got '{provider}'")
    if precision not in PRECISIONS:
        raise ValueError(f"openvino: precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"openvino: threads must be at least 1, got {threads}")
    # Quantised nodes are named by their type; there is no onnx package on a board to read them with.
    quantised = b"QuantizeLinear" in model
    if quantised != (precision == "int8"):
        raise ValueError(
            f"openvino: the model's precision must be the requested one, got "
            f"{'a quantised' if quantised else 'an unquantised'} model and {precision}"
        )
    return OpenvinoSession(model, threads=threads, batch=batch)


class OpenvinoSession:
    """One compiled model and one request, its input set once."""

    def __init__(self, model: bytes, *, threads: int, batch: int) -> None:
        import numpy as np
        import openvino

        core = openvino.Core()
        network = read(core, model)
        for item in network.inputs:
            shape = item.get_partial_shape()
            if shape[0].is_dynamic:
                shape[0] = batch
                network.reshape({item: shape})
            elif shape[0].get_length() != batch:
                raise ValueError(f"the model's batch is {shape[0].get_length()}, requested {batch}")
        wanted = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": openvino.Type.f32,  # or it computes in bf16 where it can
            "ENABLE_CPU_PINNING": False,  # as in the other runtimes, the system places the threads
        }
        compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", **wanted})
        for name, value in wanted.items():
            if compiled.get_property(name) != value:
                raise RuntimeError(f"openvino took {name}={compiled.get_property(name)}, requested {value}")
        self._request = compiled.create_infer_request()
        self._inputs = {}
        rng = np.random.default_rng(0)
        for index, item in enumerate(compiled.inputs):
            kind = item.get_element_type().to_dtype()
            values = rng.standard_normal(tuple(item.get_shape()))
            if np.issubdtype(kind, np.integer):
                values = 127 * (values.clip(-1, 1) + np.issubdtype(kind, np.unsignedinteger))
            array = np.ascontiguousarray(values.astype(kind))
            self._inputs[item.get_any_name()] = array
            self._request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))

    def run(self) -> None:
        self._request.infer(share_outputs=True)

    def outputs(self) -> list[Any]:
        self.run()
        return [tensor.data.copy() for tensor in self._request.output_tensors]

    def close(self) -> None:
        del self._request


def read(core: Any, model: bytes) -> Any:
    """OpenVINO's model of either kind of bytes."""
    if not model.startswith(_MAGIC):
        return core.read_model(model)
    end = model.index(b"\n", len(_MAGIC))
    weights = end + 1 + int(model[len(_MAGIC) : end])
    return core.read_model(model[end + 1 : weights], model[weights:])


def packed(xml: bytes, weights: bytes) -> bytes:
    """The one piece of OpenVINO's two files that `prepare` takes."""
    return _MAGIC + f"{len(xml)}\n".encode() + xml + weights
