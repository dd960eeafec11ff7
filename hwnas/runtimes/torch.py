"""The runtime "torch": an exported program on the CPU or a GPU - eager, compiled, or as a CUDA graph."""

from __future__ import annotations

import io
from typing import Any

MODEL_FORMAT = "torch"
PRECISIONS = ("fp32", "bf16", "fp16")
DEFAULT = "cpu"

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_PROVIDERS = {
    "cpu": ("fp32", "bf16"),
    "cpu-compiled": ("fp32", "bf16"),
    "cuda": ("fp32", "bf16", "fp16"),
    "cuda-compiled": ("fp32", "bf16", "fp16"),
    "cuda-graphs": ("fp32", "bf16", "fp16"),
}
_DEVICES = {name: name.partition("-")[0] for name in _PROVIDERS}
_RUNS_BEFORE_CAPTURE = 3


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import torch
    except ImportError as error:
        return {
            "version": None,
            "provider": DEFAULT,
            "providers": [],
            "missing": f"pip install torch ({error})",
        }
    there = [name for name in _PROVIDERS if not name.startswith("cuda") or torch.cuda.is_available()]
    return {"version": str(torch.__version__), "provider": DEFAULT, "providers": there, "missing": None}


def prepare(
    model: bytes,
    *,
    threads: int,
    batch: int,
    precision: str,
    provider: str | None = None,
) -> TorchSession:
    """A session on the provider (`cpu` by default); `threads` is what torch's CPU part uses.

    `cpu` and `cuda` run op by op, `-compiled` goes through torch.compile, `cuda-graphs` replays what
    was captured once. Raises ValueError for a precision, batch or provider that does not fit the
    model or torch, RuntimeError where there is no CUDA.
    """
    import torch

    provider = DEFAULT if provider is None else provider
    if provider not in _PROVIDERS:
        raise ValueError(f"torch: provider must be one of {', '.join(_PROVIDERS)}, got '{provider}'")
    if precision not in _PROVIDERS[provider]:
        known = ", ".join(_PROVIDERS[provider])
        raise ValueError(f"torch: precision must be one of {known} with {provider}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"torch: threads must be at least 1, got {threads}")
    if provider.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError(
            f"torch {torch.__version__} sees no GPU, so there is no {provider}: look at nvidia-smi, then "
            "pip install --force-reinstall torch"
        )
    return TorchSession(
        model, threads=threads, batch=batch, dtype=getattr(torch, _DTYPES[precision]), provider=provider
    )


class TorchSession:
    """One program with an input of its own; what it gave last is in `output`."""

    def __init__(self, model: bytes, *, threads: int, batch: int, dtype: Any, provider: str) -> None:
        import numpy as np
        import torch

        torch.set_num_threads(threads)
        _compute_exactly(torch)
        program = torch.export.load(io.BytesIO(model))
        shape, kind = _input(program)
        if shape[0] != batch:
            raise ValueError(f"the model's batch is {shape[0]}, asked for {batch}")
        if kind != dtype:
            raise ValueError(
                f"torch: the model's precision must be the one asked for, got a model of {kind} and {dtype}"
            )
        device = torch.device(_DEVICES[provider])
        # Convolutions on x86 are three times as fast with the channels last, and GPUs prefer it too.
        layout: Any = torch.channels_last if len(shape) == 4 else torch.contiguous_format
        self._module: Any = program.module().to(device=device)
        self._module.to(memory_format=torch.channels_last)
        values = torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).to(dtype)
        self._input: Any = values.to(device=device, memory_format=layout)
        self._torch, self._waits = torch, provider.startswith("cuda")
        self.output: Any = None
        self._step = self._eager
        if provider.endswith("-compiled"):
            self._module = torch.compile(self._module, fullgraph=True, dynamic=False)
            with torch.inference_mode():
                self._eager()  # compiles; a compiler that is not there is an error here
        if provider == "cuda-graphs":
            self._step = self._captured()
        if self._waits:
            torch.cuda.synchronize()

    def run(self) -> None:
        with self._torch.inference_mode():
            self._step()
        if self._waits:
            self._torch.cuda.synchronize()

    def outputs(self) -> list[Any]:
        self.run()
        return [self.output.float().cpu().numpy()]

    def close(self) -> None:
        self._module = self._input = self.output = None
        self._step = self._eager
        if self._waits:
            self._torch.cuda.empty_cache()

    def _eager(self) -> None:
        self.output = self._module(self._input)

    def _captured(self) -> Any:
        """Replays one run: a capture wants some runs before it, on a stream that is not the default."""
        cuda = self._torch.cuda
        with self._torch.inference_mode():
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):
                for _ in range(_RUNS_BEFORE_CAPTURE):
                    self._eager()
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                self._eager()
        return graph.replay


def _input(program: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype of the program's only input."""
    (name,) = program.graph_signature.user_inputs
    (value,) = [node.meta["val"] for node in program.graph.nodes if node.name == name]
    return tuple(int(side) for side in value.shape), value.dtype


def _compute_exactly(torch: Any) -> None:
    """fp32 is fp32: no TF32 in products and convolutions; and the fastest algorithm for each shape."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
