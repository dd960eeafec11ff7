"""The fast form computes what the network computes, with fewer nodes and nothing of the original touched."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest
import torch
from nn_archs import SMALL

from hwnas.export.fast_form import fast_form
from hwnas.export.graphs import fast_model, network_model, published_model
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build, fold
from hwnas.space import preset

PRESETS = ("uniform-t", "uniform-t-paper", "efficientvit-m1", "shvit-s1")


@pytest.mark.parametrize("name", [*SMALL, *PRESETS])
def test_the_fast_form_gives_what_the_network_gives(name: str) -> None:
    arch = SMALL[name] if name in SMALL else preset(name)
    network = randomise(build(arch)).double().eval()
    images = torch.randn(2, 3, arch.resolution, arch.resolution, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fast_form(network)(images), network(images), rtol=1e-11, atol=1e-11)


def test_the_fast_form_leaves_the_network_as_it_was() -> None:
    network = randomise(build(preset("uniform-t"))).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fast_form(network)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def kinds(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


@pytest.mark.parametrize("name", ["uniform-t", "efficientvit-m0", "shvit-s1"])
def test_the_fast_graph_has_fewer_nodes_and_as_many_products(name: str) -> None:
    network = randomise(build(preset(name)))
    fast, published = kinds(fast_model(network)), kinds(published_model(network))
    assert fast["MatMul"] == published["MatMul"]
    assert fast.total() < published.total()
    assert fast["Reshape"] < published["Reshape"] or name == "uniform-t"


def test_heads_of_reuse_attention_are_one_depthwise_convolution_of_the_largest_kernel() -> None:
    """uniform-t has five attentions of four heads, kernels 1, 3, 5 and 7."""
    graph = onnx.load_from_string(fast_model(randomise(build(preset("uniform-t"))))).graph
    weights = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    values = [shape for name, shape in weights.items() if name.endswith("attention.value.weight")]
    assert values == [(c, 1, 7, 7) for c in (64, 128, 128, 192, 192)]


def test_what_latency_tables_are_measured_on_is_the_published_form() -> None:
    arch = preset("uniform-t")
    timed, published = (
        onnx.load_from_string(model).graph
        for model in (network_model(arch), published_model(randomise(build(arch))))
    )
    assert list(timed.node) == list(published.node)
    assert kinds(network_model(arch))["Conv"] == kinds(fast_model(randomise(build(arch))))["Conv"] + 5 * 2
    assert len(list(fold(build(arch)).get_submodule("stages.0.blocks.0.attention.value_scales"))) == 4
