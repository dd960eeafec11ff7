"""The runtime "ncnn", on the CPU: fp32 throughout, threads explicit, batch 1."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

MODEL_FORMAT = "ncnn"
PACKAGES = ("ncnn",)
"""What pip installs on a board that has no runtime yet."""
PROVIDER = "cpu"
PRECISIONS = ("fp32",)

_MAGIC = b"hwnas ncnn 1\n"


def probe() -> dict[str, Any]:
    """Version and providers, or the command that installs what is missing."""
    try:
        import ncnn
    except ImportError as error:
        return {
            "version": None,
            "provider": PROVIDER,
            "providers": [],
            "missing": f"pip install ncnn ({error})",
        }
    return {
        "version": str(ncnn.__version__),
        "provider": PROVIDER,
        "providers": [PROVIDER],
        "missing": None,
    }


def prepare(
    model: bytes, *, threads: int, batch: int, precision: str, provider: str | None = None
) -> NcnnSession:
    """A session on the CPU with exactly `threads` threads.

    Raises ValueError for a setting that it does not have, and for a model that it can't read.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"ncnn: precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    if threads < 1:
        raise ValueError(f"ncnn: threads must be at least 1, got {threads}")
    if batch != 1:
        raise ValueError(f"ncnn: batch must be 1, got {batch}: its tensors have no batch dimension")
    if provider not in (None, PROVIDER):
        raise ValueError(f"ncnn: provider must be {PROVIDER}, got '{provider}'")
    return NcnnSession(model, threads=threads)


class NcnnSession:
    """One model and one input. A run is what ncnn's users run: a new extractor, input in, output out."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        import ncnn
        import numpy as np

        header, param, weights = _unpacked(model)
        self._net = ncnn.Net()
        option = self._net.opt
        option.num_threads = threads
        option.use_vulkan_compute = False
        # fp32 is fp32: ncnn would use halves by itself where the processor has them.
        option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
        option.use_bf16_storage = False
        if hasattr(option, "use_bf16_packed"):
            option.use_bf16_packed = False
        # As ncnn has it by default: channels packed by the vector's length, Winograd, sgemm.
        option.use_packing_layout = True
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "model.param", Path(folder) / "model.bin"
            files[0].write_bytes(param)
            files[1].write_bytes(weights)
            if self._net.load_param(str(files[0])) != 0 or self._net.load_model(str(files[1])) != 0:
                raise ValueError("ncnn cannot read this model")
        self._input, self._output = header["input"], header["output"]
        self.images = np.random.default_rng(0).standard_normal(header["shape"]).astype(np.float32)
        """What it runs on, (C, H, W)."""
        self._mat = ncnn.Mat(self.images).clone()  # a copy of its own, aligned as ncnn's are

    def run(self) -> Any:
        """The output, as ncnn's Mat. Raises RuntimeError when a layer could not run."""
        return self._extracted(self._mat)

    def compute(self, images: Any) -> Any:
        """What the network gives for one image: (1, C, H, W) -> (1, ...), both numpy."""
        import ncnn
        import numpy as np

        return np.array(self._extracted(ncnn.Mat(np.ascontiguousarray(images[0])).clone()))[None]

    def _extracted(self, mat: Any) -> Any:
        extractor = self._net.create_extractor()
        extractor.input(self._input, mat)
        code, output = extractor.extract(self._output)
        if code != 0:
            raise RuntimeError(f"ncnn could not run the model: error {code}")
        return output

    def outputs(self) -> list[Any]:
        import numpy as np

        return [np.array(self.run())]

    def close(self) -> None:
        self._net.clear()


def _unpacked(model: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """(header, .param, .bin) of the format that hwnas writes."""
    if not model.startswith(_MAGIC):
        raise ValueError("ncnn: not a model in hwnas's ncnn format")
    end = model.index(b"\n", len(_MAGIC))
    header = json.loads(model[len(_MAGIC) : end])
    weights = end + 1 + header["param_bytes"]
    return header, model[end + 1 : weights], model[weights:]
