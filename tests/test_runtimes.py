"""Runtime plug-ins: what each promises, that all compute the same, and that none falls back."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nn_archs import SHVIT_LIKE

from hwnas import plugins
from hwnas.errors import BoardError, UsageError
from hwnas.export.quantise import quantise
from hwnas.export.timing import exporter
from hwnas.measure.remote.link import CellError, LocalLink
from hwnas.predictors.latency import DeviceProfile
from hwnas.space import lower

FFN = next(op for op in lower(SHVIT_LIKE) if op.kind == "ffn")
ONE = {"threads": 1, "batch": 1, "precision": "fp32"}


@cache
def network(runtime: str, precision: str = "fp32", batch: int = 1) -> bytes:
    return exporter(runtime, precision).network_model(SHVIT_LIKE, batch=batch)


def relu_model(batch: int | str = 1, kind: int = onnx.TensorProto.FLOAT) -> bytes:
    shape = [batch, 4]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, shape)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def name_of(runtime: Any) -> str:
    """What the plug-in is called."""
    return str(runtime.__name__).rpartition(".")[2]


def installed(name: str) -> Any:
    """The plug-in, or the test is skipped."""
    module = plugins.load("runtimes", name)
    if module.probe()["missing"]:
        pytest.skip(f"{name} is not installed: {module.probe()['missing']}")
    return module


@pytest.fixture(params=plugins.names("runtimes"))
def runtime(request: pytest.FixtureRequest) -> Any:
    return installed(request.param)


# --- what every plug-in promises --------------------------------------------------------------


def test_every_runtime_says_its_version_and_what_it_runs_on(runtime: Any) -> None:
    found = runtime.probe()
    assert set(found) == {"version", "provider", "providers", "missing"}
    assert found["version"]
    assert found["provider"] in found["providers"]
    assert runtime.MODEL_FORMAT in plugins.names("export/timing")
    assert "fp32" in runtime.PRECISIONS


def test_every_runtime_runs_an_op_of_its_format_again_and_again(runtime: Any) -> None:
    model = exporter(name_of(runtime), "fp32").op_model(FFN, batch=1)
    session = runtime.prepare(model, **ONE)
    session.run()
    session.run()
    (output,) = session.outputs()
    assert output.size == np.prod(FFN.out_shape)
    session.close()


def test_every_runtime_gives_what_onnxruntime_gives(runtime: Any) -> None:
    reference = installed("onnxruntime").prepare(network("onnxruntime"), **ONE).outputs()[0].reshape(-1)
    session = runtime.prepare(network(name_of(runtime)), **ONE)
    (logits,) = session.outputs()
    assert np.abs(logits.reshape(-1) - reference).max() <= 1e-4 * np.abs(reference).max()
    session.close()


def test_two_threads_compute_the_same(runtime: Any) -> None:
    one, two = (
        runtime.prepare(network(name_of(runtime)), **(ONE | {"threads": threads})).outputs()[0]
        for threads in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"precision": "int3"}, "precision must be one of .* got 'int3'"),
        ({"provider": "abacus"}, "abacus"),
        ({"batch": 2}, "batch"),
    ],
)
def test_every_runtime_refuses_what_it_cannot_honour(runtime: Any, wrong: Any, rule: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=rule):
        runtime.prepare(network(name_of(runtime)), **(ONE | wrong))


@pytest.mark.parametrize("name", plugins.names("runtimes"))
def test_a_runtime_that_is_not_installed_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = {"litert": "ai-edge-litert"}.get(name, name)
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, package.replace("-", "_"), None)  # as if it were not there
    found = plugins.load("runtimes", name).probe()
    assert found["missing"].startswith(f"pip install {package} (")
    assert found["providers"] == []


# --- onnxruntime and openvino, which read the same models -------------------------------------

BOTH = pytest.mark.parametrize("name", ["onnxruntime", "openvino"])


@BOTH
def test_sixteen_images_are_computed_in_one_run(name: str) -> None:
    session = installed(name).prepare(network("onnxruntime", batch=16), threads=1, batch=16, precision="fp32")
    assert session.outputs()[0].shape == (16, SHVIT_LIKE.classes)


@BOTH
def test_int8_differs_from_fp32_by_little_and_not_by_nothing(name: str) -> None:
    runtime = installed(name)
    exact = runtime.prepare(network("onnxruntime"), **ONE).outputs()[0]
    # What a table times has other weights once it is quantised, so it is quantised here.
    images = np.random.default_rng(0).standard_normal((1, 3, *[SHVIT_LIKE.resolution] * 2), dtype=np.float32)
    model = quantise(network("onnxruntime"), [images])
    rounded = runtime.prepare(model, **(ONE | {"precision": "int8"})).outputs()[0]
    difference = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-4 < difference < 0.1


@BOTH
def test_a_model_of_another_precision_is_refused(name: str) -> None:
    runtime = installed(name)
    with pytest.raises(ValueError, match="got an unquantised model and int8"):
        runtime.prepare(network("onnxruntime"), threads=1, batch=1, precision="int8")
    with pytest.raises(ValueError, match="got a quantised model and fp32"):
        runtime.prepare(network("onnxruntime", "int8"), **ONE)


@BOTH
def test_a_model_of_another_batch_is_refused_and_a_free_one_takes_it(name: str) -> None:
    runtime = installed(name)
    with pytest.raises(ValueError, match="the model's batch is 1, requested 2"):
        runtime.prepare(relu_model(), threads=1, batch=2, precision="fp32")
    assert runtime.prepare(relu_model("n"), threads=1, batch=2, precision="fp32").outputs()[0].shape == (2, 4)


@BOTH
def test_the_model_is_computed_on_inputs_that_every_runtime_has(name: str) -> None:
    (output,) = installed(name).prepare(relu_model(), **ONE).outputs()
    expected = np.maximum(np.random.default_rng(0).standard_normal((1, 4)), 0)
    np.testing.assert_allclose(output, expected, rtol=1e-6)


@BOTH
def test_one_thread_more_is_one_thread_more_of_the_process(name: str) -> None:
    runtime = installed(name)

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    if not Path("/proc/self/task").is_dir():
        pytest.skip("the system does not list threads")
    before = threads()
    one = runtime.prepare(network("onnxruntime"), **ONE)
    one.run()
    first = threads() - before
    one.close()
    before = threads()
    two = runtime.prepare(network("onnxruntime"), threads=2, batch=1, precision="fp32")
    two.run()
    assert threads() - before - first in (0, 1) if name == "openvino" else threads() - before == 1
    two.close()


def test_openvino_computes_with_the_settings_asked_for() -> None:
    session = installed("openvino").prepare(network("onnxruntime"), threads=2, batch=1, precision="fp32")
    compiled = session._request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert compiled.get_property("NUM_STREAMS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


# --- torch ------------------------------------------------------------------------------------


def test_torch_computes_with_the_threads_asked_for() -> None:
    runtime = installed("torch")
    for threads in (2, 1):
        runtime.prepare(network("torch"), threads=threads, batch=1, precision="fp32")
        assert torch.get_num_threads() == threads


def test_torch_computes_in_bf16_when_asked_and_then_only() -> None:
    runtime = installed("torch")
    exact = runtime.prepare(network("torch"), **ONE).outputs()[0]
    session = runtime.prepare(network("torch", "bf16"), **(ONE | {"precision": "bf16"}))
    rounded = session.outputs()[0]
    assert session.output.dtype == torch.bfloat16
    assert 1e-4 < np.abs(rounded - exact).max() / np.abs(exact).max() < 0.1
    with pytest.raises(ValueError, match="got a model of torch.float32 and torch.bfloat16"):
        runtime.prepare(network("torch"), **(ONE | {"precision": "bf16"}))
    with pytest.raises(ValueError, match="one of fp32, bf16 with cpu, got 'fp16'"):
        runtime.prepare(network("torch", "fp16"), **(ONE | {"precision": "fp16"}))


@pytest.mark.slow
def test_torch_compiled_gives_what_it_gives_op_by_op() -> None:
    runtime = installed("torch")
    eager = runtime.prepare(network("torch"), **ONE).outputs()[0]
    compiled = runtime.prepare(network("torch"), **ONE, provider="cpu-compiled").outputs()[0]
    np.testing.assert_allclose(compiled, eager, rtol=1e-3, atol=1e-4)


# --- in the agent -----------------------------------------------------------------------------


def test_a_link_measures_over_a_process_and_goes_on_after_a_broken_model() -> None:
    from hwnas.board.timing import Rules

    rules = Rules(warmup_s=0.0, warmup_limit_s=0.05, limit_s=0.02)
    profile = DeviceProfile(board="here", runtime="onnxruntime")
    with LocalLink("onnxruntime") as link:
        assert link.hello()["runtime"]["missing"] is None
        with pytest.raises(CellError):
            link.measure(b"no model", rules=rules, profile=profile)
        answer = link.measure(relu_model(), rules=rules, profile=profile)
        assert len(answer["samples_ns"]) >= 30
        assert answer["median_ms"] < 10


def test_a_link_whose_agent_died_says_so() -> None:
    link = LocalLink("onnxruntime")
    link._process.kill()
    link._process.wait()
    with pytest.raises(BoardError, match=r"is gone|ended without an answer"):
        link.hello()
    link.close()


def test_an_unknown_runtime_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnxruntime'"):
        LocalLink("onxruntime")


# --- plug-ins of other packages ---------------------------------------------------------------


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Declares `abacus` as another package's runtime, by the entry point's value."""
    (tmp_path / "abacus_runtime.py").write_text("MODEL_FORMAT = 'onnx'\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def declare(value: str) -> None:
        point = importlib.metadata.EntryPoint("abacus", value, "hwnas.runtimes")
        monkeypatch.setattr(plugins, "_entry_points", lambda folder: {"abacus": point})

    return declare


def test_a_runtime_of_another_package_is_found_as_a_file(entry_point: Any, tmp_path: Path) -> None:
    entry_point("abacus_runtime")
    assert "abacus" in plugins.names("runtimes")
    assert plugins.file_of("runtimes", "abacus") == tmp_path / "abacus_runtime.py"


@pytest.mark.parametrize("value", ["abacus_runtime:Abacus", "no_such_module", "sys"])
def test_an_entry_point_that_is_no_file_is_refused(entry_point: Any, value: str) -> None:
    entry_point(value)
    with pytest.raises(UsageError, match="must name a module in one Python file"):
        plugins.file_of("runtimes", "abacus")


def test_a_plug_in_of_hwnas_is_its_file() -> None:
    file = plugins.file_of("runtimes", "onnxruntime")
    assert file.parts[-3:] == ("hwnas", "runtimes", "onnxruntime.py")
    assert file.is_file()
