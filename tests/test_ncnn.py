"""ncnn: what is written for it does what ONNX Runtime does, as ncnn's own converter would write it."""

from __future__ import annotations

import random
from typing import Any

import nn_archs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.export.ncnn.lowering import lower_to_ncnn
from hwnas.export.ncnn.pack import packed
from hwnas.export.onnx_graph import network_graph, op_graph
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import randomise, repeat_weights
from hwnas.nn.folding import fold
from hwnas.nn.network import build, build_op
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower
from hwnas.space.presets import preset, preset_names
from hwnas.space.search_space import SearchSpace

pytest.importorskip("ncnn")
ort = pytest.importorskip("onnxruntime")

RUNTIME: Any = plugins.load("runtimes", "ncnn")
NCNN = exporter("ncnn", "fp32")
TOLERANCE = 1e-4  # over the largest number; fp32 in another order of summation gives some 1e-7
SMALL = {name: value for name, value in vars(nn_archs).items() if isinstance(value, ArchSpec)}
OPS = {op.key: op for arch in SMALL.values() for op in lower(arch)}
QUICK_PRESETS = ("uniform-t", "efficientvit-m0", "shvit-s1")


def param(model: bytes) -> list[list[str]]:
    """The lines of a model's .param file, cut into words."""
    _, text, _ = RUNTIME._unpacked(model)
    return [line.split() for line in text.decode().splitlines()]


def reference(arch: ArchSpec) -> bytes:
    """The reference graph as ONNX, with the weights that models to be timed have."""
    return network_graph(repeat_weights(fold(randomise(build(arch)))))


def reference_op(op: OpSpec, batch: int = 1) -> bytes:
    """The same for one op."""
    return op_graph(repeat_weights(fold(randomise(build_op(op)))), op, batch=batch)


def outputs(model: bytes, onnx_model: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What ncnn and ONNX Runtime give for the same input."""
    session = RUNTIME.prepare(model, threads=1, batch=1, precision="fp32")
    got = np.array(session.run())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    reference = ort.InferenceSession(onnx_model, options, providers=["CPUExecutionProvider"])
    expected = reference.run(None, {reference.get_inputs()[0].name: session.images[None]})[0][0]
    session.close()
    return got, expected


def assert_same(model: bytes, onnx_model: bytes) -> None:
    got, expected = outputs(model, onnx_model)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("key", OPS)
def test_every_kind_of_op_gives_in_ncnn_what_it_gives_in_onnxruntime(key: str) -> None:
    op = OpSpec.from_key(key)
    assert_same(NCNN.op_model(op, batch=1), reference_op(op))


def test_the_small_architectures_have_every_kind_of_op_that_a_preset_has() -> None:
    kinds = {op.kind for name in preset_names() for op in lower(preset(name))}
    assert kinds <= {op.kind for op in OPS.values()}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_give_the_same_logits(name: str) -> None:
    assert_same(NCNN.network_model(SMALL[name], batch=1), reference(SMALL[name]))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK_PRESETS else pytest.mark.long) for name in preset_names()],
)
def test_presets_give_the_same_logits(name: str) -> None:
    assert_same(NCNN.network_model(preset(name), batch=1), reference(preset(name)))


@pytest.mark.parametrize("seed", [46, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(9))])
def test_random_networks_of_the_default_space_give_the_same_logits(seed: int) -> None:
    arch = SearchSpace.default().sample(random.Random(seed))
    assert_same(NCNN.network_model(arch, batch=1), reference(arch))


def test_two_threads_give_what_one_gives() -> None:
    model = NCNN.network_model(SMALL["PADDED_WINDOWS"], batch=1)
    one, two = (
        np.array(RUNTIME.prepare(model, threads=count, batch=1, precision="fp32").run()) for count in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_reference_dw_is_the_layers_that_pnnx_writes_for_it() -> None:
    """A sum of a depthwise convolution and its input; a blob read twice is split."""
    lines = param(packed(reference_op(OpSpec.from_key("dw(c=8,side=14)"))))
    assert lines[0] == ["7767517"]
    assert lines[1] == ["4", "5"]
    assert [line[0] for line in lines[2:]] == ["Input", "Split", "ConvolutionDepthWise", "BinaryOp"]
    settings = dict(word.split("=") for word in lines[4][6:])
    channels, kernel, groups = {"0": "8"}, {"1": "3", "11": "3"}, {"7": "8"}
    bias, weights = {"5": "1"}, {"6": "72"}
    dilation_stride_and_pads = dict.fromkeys(["2", "12", "3", "13", "4", "14", "15", "16"], "1")
    assert settings == channels | kernel | bias | weights | groups | dilation_stride_and_pads
    assert lines[5][2:] == ["2", "1", "input_1", "1", "output", "0=0"]


def test_activations_are_inside_the_layers_before_them() -> None:
    lines = param(NCNN.op_model(OpSpec.from_key("merge(c=8,out=16,side=14)"), batch=1))
    activations = [(line[0], *(word for word in line[4:] if word.startswith("9="))) for line in lines[2:]]
    assert activations == [
        ("Input",),
        ("Convolution", "9=1"),
        ("ConvolutionDepthWise", "9=1"),
        ("Split",),
        ("Pooling",),
        ("InnerProduct", "9=1"),
        ("InnerProduct", "9=4"),
        ("BinaryOp",),
        ("Convolution",),
    ]


@pytest.mark.parametrize("name", SMALL)
def test_no_blob_has_more_than_three_axes_and_each_has_one_reader(name: str) -> None:
    import ncnn

    model = NCNN.network_model(SMALL[name], batch=1)
    session = RUNTIME.prepare(model, threads=1, batch=1, precision="fp32")
    read: list[str] = []
    for line in param(model)[2:]:
        inputs, results = int(line[2]), int(line[3])
        read += line[4 : 4 + inputs]
        for blob in line[4 + inputs : 4 + inputs + results]:
            extractor = session._net.create_extractor()
            extractor.input(session._input, ncnn.Mat(session.images).clone())
            code, mat = extractor.extract(blob)
            assert code == 0 and 1 <= mat.dims <= 3, blob
    assert len(read) == len(set(read))


def test_ops_of_a_network_have_the_layers_they_have_alone() -> None:
    """A latency table rests on that: only inputs, and splits between ops, may differ."""
    arch = preset("uniform-t")

    def kinds(model: bytes) -> list[str]:
        return [line[0] for line in param(model)[2:] if line[0] not in ("Input", "Split")]

    alone = [kind for op in lower(arch) for kind in kinds(NCNN.op_model(op, batch=1))]
    assert kinds(NCNN.network_model(arch, batch=1)) == alone


def test_a_batch_is_refused_when_exporting_and_when_running() -> None:
    op = OpSpec.from_key("dw(c=8,side=14)")
    with pytest.raises(UsageError, match="batch must be 1, got 2"):
        NCNN.op_model(op, batch=2)
    with pytest.raises(UsageError, match="batch must be 1, got 16"):
        NCNN.network_model(preset("uniform-t"), batch=16)
    with pytest.raises(ValueError, match="batch must be 1, got 2"):
        RUNTIME.prepare(NCNN.op_model(op, batch=1), threads=1, batch=2, precision="fp32")
    with pytest.raises(UsageError, match="batch must be 1, got 2"):
        lower_to_ncnn(onnx.load_from_string(reference_op(op, batch=2)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of fp32, got 'fp16'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"provider": "vulkan"}, "provider must be cpu, got 'vulkan'"),
        ({"model": b"\x08\x07"}, "not a model in hwnas's ncnn format"),
    ],
)
def test_settings_that_ncnn_does_not_have_are_refused(setting: dict[str, Any], message: str) -> None:
    model = NCNN.op_model(OpSpec.from_key("dw(c=8,side=14)"), batch=1)
    settings = {"model": model, "threads": 1, "batch": 1, "precision": "fp32", "provider": "cpu", **setting}
    with pytest.raises(ValueError, match=message):
        RUNTIME.prepare(settings.pop("model"), **settings)
    with pytest.raises(UsageError, match="fp32, got 'fp16'"):
        exporter("ncnn", "fp16")


def test_a_layer_that_ncnn_does_not_know_is_an_error_of_the_model() -> None:
    model = packed(reference_op(OpSpec.from_key("dw(c=8,side=14)")))
    with pytest.raises(ValueError, match="cannot read this model"):
        RUNTIME.prepare(model.replace(b"BinaryOp", b"TernryOp"), threads=1, batch=1, precision="fp32")


def graph(nodes: list[Any], shapes: dict[str, list[int]], constants: dict[str, Any]) -> onnx.ModelProto:
    """A model from the first of `shapes` to the last."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in shapes.items()]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "test", values[:1], values[-1:], stored))


def test_a_node_without_a_rule_is_refused_by_name() -> None:
    model = graph([helper.make_node("Tanh", ["x"], ["y"])], {"x": [1, 2, 3, 3], "y": [1, 2, 3, 3]}, {})
    with pytest.raises(UsageError, match="no ncnn rule for ONNX's 'Tanh'.*There are rules for Conv"):
        lower_to_ncnn(model)


def test_a_reshape_that_moves_elements_between_axes_is_refused() -> None:
    """As the usual cutting into windows is written: (1, C, 2, 7, 14) and beyond."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    sides = [1, 4, 2, 7, 2, 7]
    model = graph(nodes, {"x": [1, 4, 14, 14], "y": sides}, {"shape": np.array(sides)})
    with pytest.raises(UsageError, match=r"from a map to its matrix or back, got \(1, 4, 14, 14\)"):
        lower_to_ncnn(model)


def test_a_dense_convolution_within_windows_is_refused() -> None:
    """Windows lie below each other then, and the convolution would see from one into the next."""
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=2),
        helper.make_node("Concat", ["a", "b"], ["w"], axis=0),
        helper.make_node("Conv", ["w", "k"], ["y"], group=1, pads=[1] * 4, strides=[1, 1], dilations=[1, 1]),
    ]
    constants = {"sizes": np.array([4, 4]), "k": np.ones((2, 2, 3, 3), np.float32)}
    with pytest.raises(UsageError, match="within windows must be 1x1 or depthwise"):
        lower_to_ncnn(graph(nodes, {"x": [1, 2, 8, 4], "y": [2, 2, 4, 4]}, constants))
