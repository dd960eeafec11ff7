"""GPU paths of the runtimes, on fake devices: where things lie, what waits, and what is refused.

torch's "meta" device stands for the GPU: it holds shapes only, and refuses to compute with a tensor
that was left on the CPU. ONNX Runtime is replaced by a module that notes what it is told.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nn_archs import SHVIT_LIKE

from hwnas import plugins
from hwnas.export.timing import exporter
from hwnas.space import lower

ONE = {"threads": 1, "batch": 1, "precision": "fp32"}


# --- torch ------------------------------------------------------------------------------------


class FakeCuda:
    """torch.cuda with one GPU, which notes what happens in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        cuda = self

        class CUDAGraph:
            def replay(self) -> None:
                cuda.log.append("replay")

        self.CUDAGraph = CUDAGraph

    def is_available(self) -> bool:
        return True

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def empty_cache(self) -> None:
        self.log.append("empty_cache")

    def current_stream(self) -> Any:
        return SimpleNamespace(wait_stream=lambda stream: self.log.append("wait for the side"))

    Stream = current_stream

    @contextlib.contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        self.log.append("side")
        yield
        self.log.append("main")

    @contextlib.contextmanager
    def graph(self, graph: object) -> Iterator[None]:
        self.log.append("capture")
        yield
        self.log.append("captured")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    threads = torch.get_num_threads()
    fake = FakeCuda()
    for name in ("is_available", "synchronize", "empty_cache", "current_stream", "Stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch.cuda, "graph", fake.graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.CUDAGraph)
    runtime = plugins.load("runtimes", "torch")
    for name in runtime.probe()["providers"]:
        if name.startswith("cuda"):
            monkeypatch.setitem(runtime._DEVICES, name, "meta")
    yield fake
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {
        precision: exporter("torch", precision).network_model(SHVIT_LIKE, batch=1)
        for precision in ("fp32", "bf16", "fp16")
    }


def counted(session: Any, log: list[str]) -> None:
    """Has the session's program write itself into the log."""
    session._module.register_forward_pre_hook(lambda *_: log.append("forward"))


def test_a_gpu_has_all_providers_and_a_computer_without_one_the_cpus(cuda: FakeCuda) -> None:
    runtime = plugins.load("runtimes", "torch")
    assert runtime.probe()["providers"] == ["cpu", "cpu-compiled", "cuda", "cuda-compiled", "cuda-graphs"]
    torch.cuda.is_available = lambda: False  # type: ignore[assignment]
    assert runtime.probe()["providers"] == ["cpu", "cpu-compiled"]


@pytest.mark.parametrize("provider", ["cuda", "cuda-compiled", "cuda-graphs"])
def test_a_gpu_that_is_not_there_is_an_error(
    provider: str, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=f"there is no {provider}.* pip install"):
        plugins.load("runtimes", "torch").prepare(models["fp32"], **ONE, provider=provider)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_everything_lies_there_and_every_run_waits_for_it(
    precision: str, cuda: FakeCuda, models: dict[str, bytes]
) -> None:
    session = plugins.load("runtimes", "torch").prepare(
        models[precision], **(ONE | {"precision": precision}), provider="cuda"
    )
    counted(session, cuda.log)
    cuda.log.clear()
    session.run()
    session.run()
    assert cuda.log == ["forward", "synchronize"] * 2
    assert session.output.device.type == session._input.device.type == "meta"
    assert session.output.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}.get(
        precision, torch.float16
    )
    assert session.output.shape == (1, SHVIT_LIKE.classes)
    session.close()
    assert cuda.log[-1] == "empty_cache"


def test_a_cuda_graph_is_captured_once_after_runs_beside_and_then_replayed(
    cuda: FakeCuda, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = plugins.load("runtimes", "torch")
    eager = runtime.TorchSession._eager

    def noted(session: Any) -> None:
        cuda.log.append("forward")
        eager(session)

    monkeypatch.setattr(runtime.TorchSession, "_eager", noted)
    session = runtime.prepare(models["fp32"], **ONE, provider="cuda-graphs")
    start = cuda.log.index("side")
    assert cuda.log[start:] == [
        *["side", "forward", "forward", "forward", "main", "wait for the side"],
        *["capture", "forward", "captured", "synchronize"],
    ]
    cuda.log.clear()
    session.run()
    session.run()
    assert cuda.log == ["replay", "synchronize"] * 2


def test_a_compiled_program_is_compiled_before_it_is_timed(
    cuda: FakeCuda, models: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(module: Any, *, fullgraph: bool, dynamic: bool) -> Any:
        assert fullgraph and not dynamic  # no part falls back to op by op, no shape is left open

        def run(images: Any) -> Any:
            cuda.log.append("compiled")
            return module(images)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    session = plugins.load("runtimes", "torch").prepare(models["fp32"], **ONE, provider="cuda-compiled")
    assert cuda.log == ["compiled", "synchronize"]
    session.run()
    assert cuda.log == ["compiled", "synchronize"] * 2


def test_fp32_on_a_gpu_is_not_tf32(cuda: FakeCuda, models: dict[str, bytes]) -> None:
    torch.backends.cudnn.allow_tf32 = True
    plugins.load("runtimes", "torch").prepare(models["fp32"], **ONE, provider="cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


# --- onnxruntime ------------------------------------------------------------------------------


class FakeOnnxRuntime(ModuleType):
    """ONNX Runtime with a GPU: `runs_on` is what a session says that it runs on."""

    def __init__(self, available: list[str], runs_on: str | None = None) -> None:
        super().__init__("onnxruntime")
        self.__version__ = "9.9"
        self.log: list[Any] = []
        self.available, self.runs_on = available, runs_on
        self.ExecutionMode = SimpleNamespace(ORT_SEQUENTIAL=0)
        self.GraphOptimizationLevel = SimpleNamespace(ORT_ENABLE_ALL=99)
        self.OrtValue = SimpleNamespace(
            ortvalue_from_numpy=lambda array, device, index: (device, array.shape)
        )
        ort = self

        class SessionOptions:
            def __init__(self) -> None:
                self.entries: dict[str, str] = {}

            def add_session_config_entry(self, name: str, value: str) -> None:
                self.entries[name] = value

        class InferenceSession:
            def __init__(self, model: bytes, options: Any, providers: Any) -> None:
                ((self.provider, provider_options),) = providers
                ort.entries, ort.provider_options = options.entries, provider_options

            def get_providers(self) -> list[str]:
                return [ort.runs_on or self.provider, "CPUExecutionProvider"]

            def io_binding(self) -> Any:
                return Binding()

            def get_inputs(self) -> Any:
                return [SimpleNamespace(name="images", shape=[1, 3, 8, 8], type="tensor(float)")]

            def get_outputs(self) -> Any:
                return [SimpleNamespace(name="logits")]

            def run_with_iobinding(self, binding: Any) -> None:
                ort.log.append("run")

        class Binding:
            def bind_ortvalue_input(self, name: str, value: Any) -> None:
                ort.log.append((name, value))

            def bind_output(self, name: str, device: str) -> None:
                ort.log.append((name, device))

            def synchronize_outputs(self) -> None:
                ort.log.append("wait")

        self.SessionOptions, self.InferenceSession = SessionOptions, InferenceSession

    def get_available_providers(self) -> list[str]:
        return self.available


GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def fake(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> FakeOnnxRuntime:
    module = FakeOnnxRuntime(*arguments)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return module


@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_onnxruntime_copies_its_input_once_and_waits_for_every_run(
    provider: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = fake(monkeypatch, GPU)
    runtime = plugins.load("runtimes", "onnxruntime")
    for spelt in (provider, name):
        ort.log.clear()
        session = runtime.prepare(b"", **ONE, provider=spelt)
        assert session._session.provider == name
        session.run()
        session.run()
        bound = [("images", ("cuda", (1, 3, 8, 8))), ("logits", "cuda")]
        assert ort.log == [*bound, "run", "wait", "run", "wait"]


def test_onnxruntime_leaves_no_node_to_the_cpu_and_rounds_nothing_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ort = fake(monkeypatch, GPU)
    runtime = plugins.load("runtimes", "onnxruntime")
    runtime.prepare(b"", **ONE, provider="cuda")
    assert ort.entries["session.disable_cpu_ep_fallback"] == "1"
    assert ort.provider_options == {"use_tf32": "0"}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    runtime.prepare(b"", **ONE, provider="tensorrt")
    assert ort.provider_options == {"trt_fp16_enable": "False", "trt_int8_enable": "False"}
    assert runtime.os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    runtime.prepare(b"", **(ONE | {"precision": "fp16"}), provider="tensorrt")
    assert ort.provider_options["trt_fp16_enable"] == "True"


def test_a_session_that_fell_back_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, GPU, "CPUExecutionProvider")
    with pytest.raises(RuntimeError, match="runs this on CPUExecutionProvider, not CUDAExecutionProvider"):
        plugins.load("runtimes", "onnxruntime").prepare(b"", **ONE, provider="cuda")


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_missing_is_an_error_that_names_its_package(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, ["CPUExecutionProvider"])
    with pytest.raises(RuntimeError, match="only CPUExecutionProvider: .*pip install onnxruntime-gpu"):
        plugins.load("runtimes", "onnxruntime").prepare(b"", **ONE, provider=provider)


def test_a_precision_that_a_provider_does_not_have_is_refused() -> None:
    runtime = plugins.load("runtimes", "onnxruntime")
    model = exporter("onnxruntime", "fp32").op_model(lower(SHVIT_LIKE)[0], batch=1)
    for provider, precision in (("cuda", "int8"), ("cuda", "fp16"), ("cpu", "fp16")):
        with pytest.raises(ValueError, match=f"precision must be one of .*, got '{precision}'"):
            runtime.prepare(model, **(ONE | {"precision": precision}), provider=provider)
    assert np.isfinite(runtime.prepare(model, **ONE, provider="cpu").outputs()[0]).all()
