"""The runtime "torch": an exported program on the CPU or a GPU - eager, compiled, or as a CUDA graph."""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from typing import Any

MODEL_FORMAT = "torch"
PACKAGES = ("torch",)
"""What pip installs on a board that has no runtime yet."""
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
        program = load_program(model)
        shape, kind = _input(program)
        if shape[0] != batch:
            raise ValueError(f"the model's batch is {shape[0]}, requested {batch}")
        if kind != dtype:
            raise ValueError(
                f"torch: the model's precision must be the requested one, got a model of {kind} and {dtype}"
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


# --- looking before loading ---------------------------------------------------------------------
#
# torch.export.load unpickles what the archive itself marks as a pickle, falls back to unpickling anything,
# evaluates the texts of symbolic sizes as Python, and finds operators by any path into torch. So only what
# `hwnas export` writes is let through: plain tensors, and a graph of aten's operators.

_FILES = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment|"
    r"models/\w+\.json|data/weights/weight_\d+|data/constants/tensor_\d+|"
    r"data/(?:weights|constants)/\w+_config\.json|data/sample_inputs/\w+\.pt|extra/[\w.-]+"
)
_OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+|_operator\.\w+|math\.\w+|torch\.ops\.higher_order\.wrap_\w+"
)
_EXPRESSION = re.compile(
    r"(?:[su]\d+|Symbol|Integer|Mul|Add|Pow|Mod|FloorDiv|Max|Min|Eq|Ne|Lt|Le|Gt|Ge|positive|nonnegative|"
    r"integer|True|False|[\d\s'+*/(),<>=&|-])*"
)
_INSIDE_TENSORS = re.compile(
    r"[\w-]+/(?:data\.pkl|byteorder|version|\.format_version|\.storage_alignment|"
    r"data/\d+|\.data/\w+)"
)
_REBUILDING = {
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "collections OrderedDict",
    "torch FloatStorage",
    "torch HalfStorage",
    "torch BFloat16Storage",
}
_IMPORTING = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ", "NEWOBJ_EX"}


def load_program(model: bytes) -> Any:
    """The exported program, after `check_program`."""
    import torch

    check_program(model)
    return torch.export.load(io.BytesIO(model))


def check_program(model: bytes) -> None:
    """Raises ValueError for an archive that holds anything but plain tensors and a graph of operators:
    loading it might run code."""
    with _archive(model) as archive:
        for name in _names(archive):
            _, _, inner = name.partition("/")
            if not _FILES.fullmatch(inner):
                raise ValueError(f"holds '{name}', which may run code when it is loaded")
            if inner.endswith("_config.json"):
                _check_payloads(name, _json(archive, name))
            elif inner.startswith("models/"):
                _check_graph(name, _json(archive, name))
            elif inner.startswith("data/sample_inputs/"):
                _check_tensors(name, _read(archive, name))


def _archive(content: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"no torch.export archive: {error}") from None


def _names(archive: zipfile.ZipFile) -> list[str]:
    """The names, none twice: torch might read another entry of that name than was looked at."""
    names = [info.filename for info in archive.infolist() if info.file_size or not info.is_dir()]
    if (
        len({name.lower() for name in names}) != len(names)
        or len({name.partition("/")[0] for name in names}) > 1
    ):
        raise ValueError("holds a name twice, or several folders, so that it can be read in two ways")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ValueError("holds compressed files, as torch writes none: they may fill the memory")
    return names


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except Exception as error:  # zipfile raises whatever it comes upon
        raise ValueError(f"'{name}' is damaged: {error}") from None


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    try:
        return json.loads(_read(archive, name))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{name}' is no JSON: {error}") from None


def _check_payloads(name: str, document: Any) -> None:
    """A list of tensors, of which none is a pickle or an object."""
    entries = document.get("config") if isinstance(document, dict) else None
    listed: dict[str, Any] = entries if isinstance(entries, dict) else {"": None}
    for key, entry in listed.items():
        plain = isinstance(entry, dict) and entry.get("use_pickle") is False and "path_name" in entry
        if not plain or not re.fullmatch(r"(?:weight|tensor)_\d+", str(entry["path_name"])):
            raise ValueError(f"'{name}': '{key}' is not a plain tensor, and may run code when it is loaded")


def _check_graph(name: str, document: Any) -> None:
    """A graph whose operators are aten's and whose symbolic sizes are arithmetic."""
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("inputs"), list) and "target" in part:
                _allow(name, part["target"], _OPERATORS)
            if "expr_str" in part:
                _allow(name, part["expr_str"], _EXPRESSION)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _allow(name: str, text: Any, pattern: Any) -> None:
    if not isinstance(text, str) or not pattern.fullmatch(text) or "__" in text:
        raise ValueError(f"'{name}': '{str(text)[:80]}' is not an operator that hwnas exports")


def _check_tensors(name: str, content: bytes) -> None:
    """What torch.save wrote of tensors: a pickle that names nothing but them."""
    if not content:
        return
    with _archive(content) as archive:
        for inner in _names(archive):
            if not _INSIDE_TENSORS.fullmatch(inner):
                raise ValueError(f"'{name}' holds '{inner}', which may run code when it is loaded")
            if not inner.endswith("/data.pkl"):
                continue
            for operation, argument, _ in pickletools.genops(_read(archive, inner)):
                if operation.name in _IMPORTING or (
                    operation.name == "GLOBAL" and argument not in _REBUILDING
                ):
                    raise ValueError(f"'{name}' names {argument!r} ({operation.name}): it may run code")


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
