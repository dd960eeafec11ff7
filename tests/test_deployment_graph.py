"""The deployment graph computes what the network computes, and is its ops' graphs one after the other."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nn_archs import SMALL

from hwnas import plugins
from hwnas.errors import HwnasError
from hwnas.export import deploy
from hwnas.export.deployment_graph import FORMS, GRAPH, deployed, forms_of
from hwnas.export.formats import FORMATS
from hwnas.export.forms import REFERENCE, form_names, in_form
from hwnas.export.onnx_graph import network_graph, reference_graph
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import Network, build, fold
from hwnas.space import ArchSpec, OpSpec, lower, preset
from hwnas.space.ops import KINDS

PRESETS = ("uniform-t", "uniform-t-paper", "efficientvit-m1", "shvit-s1")
FAMILIES = ("uniform-t", "efficientvit-m0", "shvit-s1")
WHOLE = (*SMALL, *FAMILIES)
SMALL_FIRST = (*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES))
"""For formats that take seconds to write: the small networks have every op and every form."""


def arch_of(name: str) -> ArchSpec:
    return SMALL[name] if name in SMALL else preset(name)


# --- forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMALL, *PRESETS])
@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_the_deployed_network_gives_what_the_network_gives(runtime: str, name: str) -> None:
    arch = arch_of(name)
    network = randomise(build(arch)).double().eval()
    images = torch.randn(2, 3, arch.resolution, arch.resolution, dtype=torch.float64)
    with torch.no_grad():
        ours = deployed(network, runtime, "fp32")(images)
        torch.testing.assert_close(ours, network(images), rtol=1e-11, atol=1e-11)


def test_deploying_leaves_the_network_as_it_was() -> None:
    network = randomise(build(preset("uniform-t"))).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    deployed(network, "onnxruntime", "fp32")
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_every_form_in_the_table_is_one_that_its_kind_has() -> None:
    for (runtime, _), forms in FORMS.items():
        assert runtime in plugins.names("runtimes")
        for kind, form in forms.items():
            assert kind in KINDS and form in form_names(kind)
    assert {(form.runtime, precision) for form in FORMATS.values() for precision in form.precisions} <= set(
        FORMS
    )
    assert re.fullmatch(r"deployment \d+", GRAPH)


def test_every_form_is_deployed_somewhere() -> None:
    used = {(kind, form) for forms in FORMS.values() for kind, form in forms.items()}
    assert used == {(kind, form) for kind in KINDS for form in form_names(kind) if form != REFERENCE}


def test_a_runtime_or_a_precision_that_the_table_does_not_name_has_the_nearest_line() -> None:
    assert forms_of("torch", "bf16") == FORMS["torch", "fp32"]
    assert forms_of("another-package", "int8") == FORMS["onnxruntime", "int8"]


def test_an_unknown_form_is_an_internal_error() -> None:
    with pytest.raises(HwnasError, match="no form 'tokens' of 'dw', only reference, merged"):
        in_form(torch.nn.Identity(), "dw", "tokens")


def kinds(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def fp32_graph(network: Network) -> bytes:
    return network_graph(deployed(network, "onnxruntime", "fp32"))


@pytest.mark.parametrize("name", ["uniform-t", "efficientvit-m0", "shvit-s1"])
def test_the_deployment_graph_has_fewer_nodes_and_as_many_products(name: str) -> None:
    network = randomise(build(preset(name)))
    ours, reference = kinds(fp32_graph(network)), kinds(reference_graph(network))
    assert ours["MatMul"] == reference["MatMul"]
    assert ours.total() < reference.total()
    assert ours["Reshape"] < reference["Reshape"] or name == "uniform-t"


def test_heads_of_reuse_attention_are_one_depthwise_convolution_of_the_largest_kernel() -> None:
    """uniform-t has five attentions of four heads, kernels 1, 3, 5 and 7."""
    graph = onnx.load_from_string(fp32_graph(randomise(build(preset("uniform-t"))))).graph
    weights = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    values = [shape for name, shape in weights.items() if name.endswith("attention.value.weight")]
    assert values == [(c, 1, 7, 7) for c in (64, 128, 128, 192, 192)]


# --- an exported network is the graphs of its ops, one after the other, in every format ---------


def files_of(name: str, model_format: str, **options: Any) -> Any:
    """What `hwnas export` writes for a network."""
    form = FORMATS[model_format]
    pytest.importorskip(form.package, reason=f"the format {model_format} is checked by {form.package}")
    return deploy.prepare(randomise(build(arch_of(name))).eval(), model_format=model_format, **options).files


def op_models(name: str, runtime: str, precision: str = "fp32") -> Iterable[tuple[OpSpec, bytes]]:
    """What a latency table's rows are measured on, in the network's order."""
    to_model = exporter(runtime, precision)
    return [(op, to_model.op_model(op, batch=1)) for op in lower(arch_of(name))]


def described(nodes: Iterable[onnx.NodeProto], graph: onnx.GraphProto) -> list[Any]:
    """Types, attributes and the shapes of the constants: all that a node's time depends on."""
    constants = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    return [
        (
            node.op_type,
            tuple(sorted((a.name, str(onnx.helper.get_attribute_value(a))) for a in node.attribute)),
            tuple(constants.get(name, "computed") for name in node.input),
        )
        for node in nodes
    ]


@pytest.mark.parametrize("name", WHOLE)
def test_onnx_nodes(name: str) -> None:
    whole = onnx.load_from_string(files_of(name, "onnx")[".onnx"]).graph
    seen = 0
    for op, model in op_models(name, "onnxruntime"):
        inside = [node for node in whole.node if node.name.startswith(f"{op.place}/")]
        alone = onnx.load_from_string(model).graph
        assert described(alone.node, alone) == described(inside, whole), op.key
        seen += len(inside)
    assert seen == len(whole.node)


@pytest.mark.parametrize("name", SMALL_FIRST)
def test_int8_nodes_with_what_quantises_between_them(name: str) -> None:
    """An op alone is given int8 channels last, and so begins and ends with a Transpose."""
    side = arch_of(name).resolution
    images = np.random.default_rng(0).standard_normal((1, 3, side, side), np.float32)
    whole = onnx.load_from_string(files_of(name, "onnx", calibration=[images])[".onnx"]).graph
    parts: Counter[Any] = Counter()
    ops = list(op_models(name, "onnxruntime", "int8"))
    for index, (_, model) in enumerate(ops):
        graph = onnx.load_from_string(model).graph
        nodes = list(graph.node)
        for node, border in ((nodes[0], index > 0), (nodes[-1], index < len(ops) - 1)):
            if border:
                assert node.op_type == "Transpose"
                nodes.remove(node)
        parts.update(described(nodes, graph))
    assert parts == Counter(described(whole.node, whole))
    assert sum(count for (kind, *_), count in parts.items() if kind == "QuantizeLinear") > len(ops)


@pytest.mark.parametrize("name", SMALL_FIRST)
def test_openvino_operations(name: str) -> None:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()

    def operations(*model: bytes) -> Counter[Any]:
        found = core.read_model(*model).get_ordered_ops()
        return Counter(
            (op.get_type_name(), tuple(op.output(0).get_shape()))
            for op in found
            if op.get_type_name() not in ("Parameter", "Result", "Constant")
        )

    files = files_of(name, "openvino")
    parts: Counter[Any] = Counter()
    for _, model in op_models(name, "openvino"):
        parts += operations(model)
    assert operations(files[".xml"], files[".bin"]) == parts


@pytest.mark.parametrize("name", WHOLE)
def test_ncnn_layers(name: str) -> None:
    """But for inputs, and for splits, which ncnn needs where a blob is read twice."""
    pytest.importorskip("ncnn")
    unpacked = plugins.load("runtimes", "ncnn")._unpacked

    def layers(text: bytes) -> list[list[str]]:
        """Kinds, numbers of inputs and outputs, and parameters."""
        lines = [line.split() for line in text.decode().splitlines()[2:]]
        return [
            [line[0], *line[2:4], *line[4 + int(line[2]) + int(line[3]) :]]
            for line in lines
            if line[0] not in ("Input", "Split")
        ]

    alone = [layer for _, model in op_models(name, "ncnn") for layer in layers(unpacked(model)[1])]
    assert layers(files_of(name, "ncnn")[".param"]) == alone


@pytest.mark.parametrize("name", SMALL_FIRST)
def test_torch_calls(name: str) -> None:
    def calls(program: bytes) -> list[Any]:
        graph = torch.export.load(io.BytesIO(program)).graph
        return [
            (str(node.target), str(node.meta.get("val")))
            for node in graph.nodes
            if node.op == "call_function"
        ]

    alone = [call for _, model in op_models(name, "torch") for call in calls(model)]
    assert [_shaped(call) for call in calls(files_of(name, "exported-program")[".pt2"])] == [
        _shaped(call) for call in alone
    ]


def _shaped(call: tuple[str, str]) -> tuple[str, list[str]]:
    """The function, and the sizes of what it gives."""
    return call[0], re.findall(r"size=\(([^)]*)\)", call[1])


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("onnxruntime", "fp32"),
        pytest.param("onnxruntime", "int8", marks=pytest.mark.slow),
        pytest.param("torch", "fp32", marks=pytest.mark.slow),
    ],
)
def test_whole_networks_that_are_timed_have_the_exported_nodes(runtime: str, precision: str) -> None:
    """`measure`, `search --verify` and the whole networks of a table."""
    arch = preset("efficientvit-m0")
    model = exporter(runtime, precision).network_model(arch, batch=1)
    if runtime == "torch":
        targets = [
            [str(node.target) for node in torch.export.load(io.BytesIO(data)).graph.nodes]
            for data in (model, files_of("efficientvit-m0", "exported-program")[".pt2"])
        ]
        assert targets[0] == targets[1]
        return
    images = np.zeros((1, 3, 224, 224), np.float32)
    options = {"calibration": [images]} if precision == "int8" else {}
    exported = onnx.load_from_string(files_of("efficientvit-m0", "onnx", **options)[".onnx"]).graph
    timed = onnx.load_from_string(model).graph
    assert described(timed.node, timed) == described(exported.node, exported)


def test_an_op_model_runs_at_any_batch_and_gives_the_ops_shape() -> None:
    covered = set()
    for arch in SMALL.values():
        for op in lower(arch):
            covered.add(op.kind)
            model = exporter("onnxruntime", "fp32").op_model(op, batch=3)
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            x = np.random.default_rng(0).standard_normal((3, *op.in_shape), np.float32)
            (result,) = session.run(["output"], {"input": x})
            assert result.shape == (3, *op.out_shape)
            assert np.isfinite(result).all()
    assert covered == set(KINDS)


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_the_same_op_gives_the_same_bytes(runtime: str) -> None:
    op, to_model = lower(SMALL["padded-windows"])[3], exporter(runtime, "fp32")
    assert to_model.op_model(op, batch=1) == to_model.op_model(op, batch=1)


def test_the_reference_form_is_what_folding_gives() -> None:
    network = fold(build(preset("uniform-t")))
    attention = network.get_submodule("stages.0.blocks.0.attention")
    assert in_form(attention, "reuse", REFERENCE) is attention
    assert len(list(attention.value_scales)) == 4  # type: ignore[arg-type]
