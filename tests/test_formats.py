"""Models that are timed: in the precisions of their format, int8 in int8 throughout, torch in torch alone."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nn_archs import ELEVIT_LIKE, SMALL

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.export.deployment_graph import deployed
from hwnas.export.onnx_graph import network_graph
from hwnas.export.quantise import quantise
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import randomise, repeat_weights
from hwnas.nn import build, fold
from hwnas.space import OpSpec, lower, preset

FLOAT_OPS = {"LayerNormalization", "Gelu", "Erf", "Div"}
"""What ONNX Runtime's CPU has no int8 kernel for; all between them and a Quantize is float."""


def optimised(model: bytes, folder: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def nodes(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("runtime", plugins.names("runtimes"))
def test_models_are_made_in_the_precisions_of_the_format_only(runtime: str) -> None:
    with pytest.raises(UsageError, match=f"models for {runtime} are made in fp32.*, got 'int3'"):
        exporter(runtime, "int3")


def test_an_unknown_runtime_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnxruntime'"):
        exporter("onxruntime", "fp32")


# --- int8 -------------------------------------------------------------------------------------


def test_a_network_in_int8_runs_in_int8_from_the_images_to_the_logits(tmp_path: Path) -> None:
    arch = preset("uniform-t")
    found = nodes(optimised(exporter("onnxruntime", "int8").network_model(arch, batch=1), tmp_path))
    fp32 = nodes(onnx.load_from_string(exporter("onnxruntime", "fp32").network_model(arch, batch=1)))
    assert found["QLinearConv"] == fp32["Conv"]
    assert found["QGemm"] == 1
    assert found["QLinearMatMul"] > 0 and found["QLinearSoftmax"] > 0 and found["QLinearAdd"] > 0
    assert not {"Conv", "Gemm", "MatMul", "Add", "Mul", "Softmax", "Concat"} & set(found)
    assert found["DequantizeLinear"] == found["QuantizeLinear"] == 1  # only the logits and the images


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_op_is_quantised_and_close_to_fp32(name: str) -> None:
    arch = SMALL[name]
    images = np.random.default_rng(1).standard_normal((2, 3, arch.resolution, arch.resolution), np.float32)
    exact = network_graph(deployed(randomise(build(arch)), "onnxruntime", "int8"), batch=2)
    logits, rounded = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"images": images})[
            0
        ]
        for model in (exact, quantise(exact, [images]))
    )
    assert 0 < np.abs(rounded - logits).max() < 0.1 * np.abs(logits).max()


def test_an_op_in_int8_takes_and_gives_int8_as_inside_a_network(tmp_path: Path) -> None:
    dw = next(op for op in lower(preset("uniform-t")) if op.kind == "dw")
    model = optimised(exporter("onnxruntime", "int8").op_model(dw, batch=2), tmp_path)
    assert [node.op_type for node in model.graph.node] == ["QLinearConv"]
    (source,), (sink,) = model.graph.input, model.graph.output
    for value in (source, sink):
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.UINT8
        assert [side.dim_value for side in tensor.shape.dim] == [
            2,
            dw.in_shape[1],
            dw.in_shape[2],
            dw.in_shape[0],
        ]


@pytest.mark.parametrize("name", ["uniform-t", "shvit-s1", "efficientvit-m0"])
def test_the_int8_ops_of_a_network_have_its_nodes_and_no_more(name: str, tmp_path: Path) -> None:
    """But for layout: a transpose more or less at the borders of an op."""
    arch, export = preset(name), exporter("onnxruntime", "int8")
    whole = nodes(optimised(export.network_model(arch, batch=1), tmp_path))
    models: dict[str, Counter[str]] = {}
    parts: Counter[str] = Counter()
    for op in lower(arch):
        if op.key not in models:
            models[op.key] = nodes(optimised(export.op_model(op, batch=1), tmp_path))
        parts += models[op.key]
    transposes = whole.pop("Transpose"), parts.pop("Transpose")
    assert parts == whole
    assert abs(transposes[0] - transposes[1]) <= 2


def test_what_has_no_int8_kernel_stays_float_in_one_piece(tmp_path: Path) -> None:
    model = onnx.load_from_string(exporter("onnxruntime", "int8").network_model(ELEVIT_LIKE, batch=1))
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    gelu = [node for node in model.graph.node if node.op_type == "Erf"]
    assert gelu
    assert all(makers[node.input[0]] == "Div" for node in gelu)


def test_quantising_twice_gives_the_same_bytes() -> None:
    code = (
        "import hashlib; from hwnas.export.timing import exporter; from hwnas.space import lower, preset;"
        "op = next(op for op in lower(preset('uniform-t')) if op.kind == 'reuse');"
        "print(hashlib.sha256(exporter('onnxruntime', 'int8').op_model(op, batch=1)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


# --- torch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_an_exported_program_gives_what_the_network_gives_in_torch(name: str) -> None:
    arch = SMALL[name]
    program = torch.export.load(io.BytesIO(exporter("torch", "fp32").network_model(arch, batch=2)))
    images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(0))
    network = repeat_weights(fold(randomise(build(arch))))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images))


def test_a_program_needs_torch_alone_where_it_runs(tmp_path: Path) -> None:
    op: OpSpec = next(op for op in lower(preset("uniform-t")) if op.kind == "reuse")
    (tmp_path / "op.pt2").write_bytes(exporter("torch", "bf16").op_model(op, batch=1))
    code = (
        "import sys, torch; sys.modules['hwnas'] = None;"
        f"y = torch.export.load('op.pt2').module()(torch.zeros(1, *{op.in_shape}, dtype=torch.bfloat16));"
        "print(tuple(y.shape), y.dtype)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{(1, *op.out_shape)} torch.bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "precision"), [("onnxruntime", "int8"), ("torch", "fp32")])
def test_a_table_of_ops_is_exported_in_a_minute_or_two(runtime: str, precision: str) -> None:
    """500 ops at 0.2 s; the machine that tests may be busy, and gets three tries."""
    export = exporter(runtime, precision)
    op = next(op for op in lower(preset("uniform-t")) if op.kind == "reuse")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        export.op_model(op, batch=1)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5
