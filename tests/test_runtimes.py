"""Runtime plug-ins: what they say is there, explicit settings, and no silent fallback."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from hwnas import plugins
from hwnas.errors import BoardError, UsageError
from hwnas.latency.link import CellError, LocalLink


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


@pytest.fixture(params=plugins.names("runtimes"))
def runtime(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = plugins.load("runtimes", request.param)
    if module.probe()["missing"]:
        pytest.skip(module.probe()["missing"])
    return module


def test_every_runtime_says_its_version_and_what_it_runs_on(runtime: Any) -> None:
    found = runtime.probe()
    assert set(found) == {"version", "provider", "providers", "missing"}
    assert found["version"]
    assert found["provider"] in found["providers"]
    assert isinstance(runtime.MODEL_FORMAT, str)


def test_every_onnx_runtime_runs_a_model_and_closes_it(runtime: Any) -> None:
    if runtime.MODEL_FORMAT != "onnx":
        pytest.skip("takes another format")
    session = runtime.prepare(relu_model(), threads=1, batch=1, precision="fp32")
    session.run()
    session.run()
    session.close()


def test_every_runtime_refuses_what_it_cannot_honour(runtime: Any) -> None:
    for wrong in ({"threads": 0}, {"precision": "int3"}):
        settings = {"threads": 1, "batch": 1, "precision": "fp32"} | wrong
        with pytest.raises(ValueError, match=r"threads must be|precision must be"):
            runtime.prepare(relu_model(), **settings)


def test_a_model_of_another_batch_is_refused() -> None:
    runtime = plugins.load("runtimes", "onnxruntime")
    with pytest.raises(ValueError, match="the model's batch is 1, asked for 2"):
        runtime.prepare(relu_model(), threads=1, batch=2, precision="fp32")
    runtime.prepare(relu_model("n"), threads=1, batch=2, precision="fp32").run()


def test_a_provider_that_is_missing_is_an_error_not_a_cpu_run() -> None:
    runtime = plugins.load("runtimes", "onnxruntime")
    with pytest.raises(RuntimeError, match="has no CUDAExecutionProvider here"):
        runtime.OnnxSession(relu_model(), threads=1, batch=1, provider="CUDAExecutionProvider")


def test_onnxruntime_computes_the_model_on_inputs_of_its_own() -> None:
    runtime = plugins.load("runtimes", "onnxruntime")
    session = runtime.OnnxSession(relu_model(), threads=1, batch=1)
    session.run()
    (output,) = session._binding.copy_outputs_to_cpu()
    np.testing.assert_allclose(output, np.maximum(session._inputs["x"], 0))


def test_a_link_measures_over_a_process_and_goes_on_after_a_broken_model() -> None:
    from hwnas.board.timing import Rules

    rules = Rules(warmup_s=0.0, warmup_limit_s=0.05, limit_s=0.02)
    settings: dict[str, Any] = {"rules": rules, "threads": 1, "batch": 1, "precision": "fp32"}
    with LocalLink("onnxruntime") as link:
        assert link.hello()["runtime"]["missing"] is None
        with pytest.raises(CellError):
            link.measure(b"no model", **settings)
        answer = link.measure(relu_model(), **settings)
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
