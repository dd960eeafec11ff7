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


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
def test_its_plain_export_has_a_product_for_every_head(dynamo: bool) -> None:
    network = randomise(build(preset("uniform-t"))).eval()
    plain = onnx.load_from_string(export_latency.plain_export(literal(network), 224, dynamo=dynamo)).graph
    ours = onnx.load_from_string(network_graph(deployed(network, "onnxruntime", "fp32"))).graph
    products = [sum(node.op_type == "MatMul" for node in graph.node) for graph in (plain, ours)]
    assert products == [5 * (1 + 4), 5 * 2]  # five attentions: the scores, and the values
    norms = [node for node in plain.node if node.op_type == "BatchNormalization"]
    assert len(norms) == 1  # the head's: torch's exporters fold those after convolutions


@pytest.mark.slow
def test_all_files_are_timed_in_one_process_and_agree() -> None:
    pytest.importorskip("timm", reason="its models are the other side")
    cases = (("onnxruntime", "fp32"), ("onnxruntime", "int8"))
    rows = export_latency.side_by_side("efficientvit-m0", (1,), 6, cases)
    assert [(row["runtime"], row["precision"]) for row in rows] == list(cases)
    for row in rows:
        assert set(row["ms"]) == {"hwnas", "dynamo", "legacy"} and min(row["ms"].values()) > 0
        assert row["ms"][row["best_plain"]] == min(row["ms"]["dynamo"], row["ms"]["legacy"])
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert rows[0]["logits_differ"] < 1e-4
    (family, _) = export_latency.by_family(rows)
    assert (family["family"], family["networks"]) == ("efficientvit", 1)
    assert family["ratio"] == pytest.approx(rows[0]["ratio"])
