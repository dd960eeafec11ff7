"""What export_latency.py compares computes the same: the other implementations are not straw men."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import torch

from hwnas.export.deployment_graph import deployed
from hwnas.export.onnx_graph import network_graph
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.space import preset

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import export_latency
from literal_uniform import literal


def test_reuse_attention_head_by_head_gives_what_the_network_gives() -> None:
    network = randomise(build(preset("uniform-t"))).double().eval()
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(literal(network)(images), network(images), rtol=1e-11, atol=1e-11)


def test_its_plain_export_has_a_convolution_and_a_product_for_every_head() -> None:
    network = randomise(build(preset("uniform-t"))).eval()
    plain = onnx.load_from_string(export_latency.plain_export(literal(network), 224)).graph
    ours = onnx.load_from_string(network_graph(deployed(network, "onnxruntime", "fp32"))).graph
    products = [sum(node.op_type == "MatMul" for node in graph.node) for graph in (plain, ours)]
    assert products == [5 * (1 + 4), 5 * 2]  # five attentions: the scores, and the values
    norms = [node.name for node in plain.node if node.op_type == "BatchNormalization"]
    assert norms == ["/head/norm/BatchNormalization"]  # torch's exporter folds those after convolutions


def test_both_sides_are_timed_in_one_run_and_agree() -> None:
    pytest.importorskip("timm", reason="its models are the other side")
    (row,) = export_latency.side_by_side("efficientvit-m0", (1,), 6)
    assert row["logits_differ"] < 1e-4
    assert row["plain_ms"] > 0 and row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
