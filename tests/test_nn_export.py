"""An exported file holds the network, whole and checked; `lower` lists what is in the reference graph."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nn_archs import ELEVIT_LIKE, PADDED_WINDOWS, SHVIT_LIKE, SMALL
from torch import Tensor, nn

from hwnas.errors import HwnasError, UsageError
from hwnas.export import deploy
from hwnas.export.onnx_graph import Batch, reference_graph
from hwnas.export.onnx_writer import MAX_OPSET, MIN_OPSET, record
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import Network, build, fold
from hwnas.space import ArchSpec, OpSpec, SearchSpace, lower, preset
from hwnas.train import checkpoint
from hwnas.train.recipe import Recipe


def session(model: bytes | Path) -> onnxruntime.InferenceSession:
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def logits_of(model: bytes | Path, images: Tensor) -> np.ndarray[Any, Any]:
    result: np.ndarray[Any, Any] = session(model).run(["logits"], {"images": images.numpy()})[0]
    return result


def exported(network: Network | ArchSpec, path: Path, *, batch: Batch = 1, opset: int = 17) -> Path:
    """The file that `hwnas export` writes; an architecture stands for a network with random weights."""
    network = randomise(build(network)) if isinstance(network, ArchSpec) else network
    (written,) = deploy.write(deploy.prepare(network, batch=batch, opset=opset), path)
    return written


def file_names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# --- folding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_a_folded_network_gives_the_same_without_batch_norm(name: str) -> None:
    network = randomise(build(SMALL[name])).double().eval()
    folded = fold(network)
    images = torch.randn(2, 3, network.arch.resolution, network.arch.resolution, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-12, atol=1e-12)
    assert not [part for part in folded.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["uniform-t", "efficientvit-m0", "shvit-s1"])
def test_a_folded_network_has_the_parameters_that_lower_says(name: str) -> None:
    folded = fold(build(preset(name)))
    for op in folded.ops:
        module = folded.get_submodule(op.place)
        assert sum(weight.numel() for weight in module.parameters()) == op.folded_params


def test_folding_leaves_the_network_as_it_was() -> None:
    network = randomise(build(PADDED_WINDOWS)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fold(network)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_exporting_a_float64_network_leaves_it_float64(tmp_path: Path) -> None:
    network = randomise(build(SHVIT_LIKE)).double()
    exported(network, tmp_path / "model.onnx")
    assert {weight.dtype for weight in network.parameters()} == {torch.float64}


# --- the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_an_exported_network_gives_the_logits_of_torch_for_any_batch(name: str, tmp_path: Path) -> None:
    network = randomise(build(SMALL[name])).eval()
    model = deploy.prepare(network, batch="dynamic")
    (written,) = deploy.write(model, tmp_path / "model.onnx")
    for count in (1, 2, 5):
        images = torch.randn(count, 3, network.arch.resolution, network.arch.resolution)
        with torch.no_grad():
            expected = network(images).numpy()
        np.testing.assert_allclose(logits_of(written, images), expected, rtol=0, atol=1e-5)
    assert model.parity_max_abs is not None and model.parity_tolerance is not None
    assert 0 <= model.parity_max_abs <= model.parity_tolerance
    assert model.size_bytes == written.stat().st_size


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
def test_every_opset_gives_a_valid_model(opset: int, tmp_path: Path) -> None:
    for arch in (PADDED_WINDOWS, ELEVIT_LIKE):
        model = onnx.load(exported(arch, tmp_path / "model.onnx", opset=opset))
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import] == [opset]


def test_an_opset_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="opset must be from 17 to 21, got 9"):
        deploy.prepare(build(SHVIT_LIKE), opset=9)


@pytest.mark.parametrize("batch", [0, -1, True, "many"])
def test_a_batch_that_cannot_be_is_refused(batch: Any) -> None:
    with pytest.raises(UsageError, match="batch must be a whole number from 1, or 'dynamic'"):
        deploy.prepare(build(SHVIT_LIKE), batch=batch)


def test_the_file_stands_alone_and_names_nothing_of_this_machine(tmp_path: Path) -> None:
    """Fault 47: weights inside. Fault 50: no host paths."""
    path = tmp_path / "model.onnx"
    exported(SHVIT_LIKE, path)
    assert file_names(tmp_path) == ["model.onnx"]
    model = onnx.load(path)
    assert all(weight.data_location == onnx.TensorProto.DEFAULT for weight in model.graph.initializer)
    assert not model.metadata_props and not model.doc_string and not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    content = path.read_bytes()
    for secret in (str(Path.home()), str(Path(deploy.__file__).parent), str(tmp_path)):
        assert secret.encode() not in content


def test_the_file_has_one_input_one_output_and_no_batch_norm(tmp_path: Path) -> None:
    graph = onnx.load(exported(PADDED_WINDOWS, tmp_path / "model.onnx", batch=2)).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {"images": [2, 3, 40, 40], "logits": [2, 10]}
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_windows_stay_within_four_dimensions() -> None:
    data = exporter("onnxruntime", "fp32").network_model(PADDED_WINDOWS, batch=1)
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    assert max(len(value.type.tensor_type.shape.dim) for value in model.graph.value_info) == 4


def test_a_network_out_of_parity_leaves_no_file(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 48: here a form forgets a projection."""
    forgetful: Callable[..., Any] = lambda network, *_: _without_projections(fold(network))  # noqa: E731
    monkeypatch.setattr(deploy, "deployed", forgetful)
    source = tmp_path / "small.yaml"
    source.write_text(PADDED_WINDOWS.to_yaml())
    answer = hwnas("export", str(source), "--out", str(tmp_path / "model.onnx"))
    assert answer.code != 0
    assert "must agree with torch to" in answer.err and "no file was written" in answer.err
    assert file_names(tmp_path) == ["small.yaml"]


def _without_projections(network: nn.Module) -> nn.Module:
    for name, weight in network.named_parameters():
        if name.endswith("attention.output.1.weight"):
            weight.data.fill_(7.0)
    return network


def test_weights_that_are_not_numbers_are_never_written(tmp_path: Path) -> None:
    network = build(SHVIT_LIKE)
    network.get_parameter("head.linear.weight").data.fill_(math.nan)
    with pytest.raises(HwnasError, match="no file was written"):
        exported(network, tmp_path / "model.onnx")
    assert file_names(tmp_path) == []


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        exported(SHVIT_LIKE, tmp_path / "missing" / "model.onnx")


def test_what_there_is_no_rule_for_is_refused_by_name() -> None:
    class Tanh(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.tanh()

    with pytest.raises(UsageError, match="no ONNX rule for torch's 'tanh'"):
        record(Tanh(), torch.zeros(1, 2), input_name="x", output_name="y")


def test_a_batch_that_is_baked_into_a_reshape_is_refused() -> None:
    class Baked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(6, 2)

    with pytest.raises(UsageError, match="it holds the batch"):
        record(Baked(), torch.zeros(3, 4), input_name="x", output_name="y")


# --- `lower` and the reference graph ----------------------------------------------------------------

MULTIPLIES = {
    "conv": "Conv",
    "pointwise": "Conv",
    "depthwise": "Conv",
    "matmul": "MatMul",
    "linear": "Gemm",
}
KIND_OF = {
    "Conv": "conv",
    "MatMul": "matmul",
    "Gemm": "linear",
    "GlobalAveragePool": "pool",
    "MaxPool": "pool",
    "LayerNormalization": "norm",
}
GELU = ("div", "erf", "add", "mul", "mul")  # as an opset below 20 spells it out


def shapes_of(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in [*graph.input, *graph.value_info, *graph.output]
    }


def graph_work(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """(type, output shape, MACs, groups) of every node that multiplies, in order."""
    shapes = shapes_of(graph)
    weights = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for node in graph.node:
        if node.op_type not in MULTIPLIES.values():
            continue
        out = shapes[node.output[0]]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "MatMul":
            macs = math.prod(out) * shapes[node.input[0]][-1]
        else:
            macs = math.prod(out) * math.prod(weights[node.input[1]][1:])
        yield node.op_type, out, macs, groups


def lowered_work(arch: ArchSpec) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    for op in lower(arch):
        for primitive in op.primitives:
            if primitive.kind in MULTIPLIES:
                groups = primitive.shape[1] if primitive.kind == "depthwise" else 1
                yield MULTIPLIES[primitive.kind], primitive.shape, primitive.macs, groups


def graph_nodes(graph: onnx.GraphProto, place: str) -> Counter[tuple[str, tuple[int, ...]]]:
    """How often each kind and output shape is among the nodes of an op; all outputs of a split as one."""
    shapes = shapes_of(graph)
    inside = [node for node in graph.node if node.name.startswith(f"{place}/")]
    return Counter(
        (
            KIND_OF.get(node.op_type, node.op_type.lower()),
            () if node.op_type == "Split" else shapes[node.output[0]],
        )
        for node in inside
    )


def lowered_nodes(op: OpSpec) -> Counter[tuple[str, tuple[int, ...]]]:
    return Counter(
        (kind, () if kind == "split" else primitive.shape)
        for primitive in op.primitives
        for kind in (GELU if primitive.kind == "gelu" else (spelled(primitive.kind),))
    )


def spelled(kind: str) -> str:
    return "conv" if kind in ("pointwise", "depthwise") else kind


def varied(seed: int) -> ArchSpec:
    """A random network of the default space; every other one for another image size."""
    rng = random.Random(seed)
    arch = SearchSpace.default().sample(rng)
    if seed % 2:
        arch = arch.adapted(resolution=rng.choice((96, 160, 200, 256)), stem_stride=rng.choice((8, 16)))
    return arch


def check_agreement(arch: ArchSpec) -> None:
    model = onnx.load_from_string(reference_graph(randomise(build(arch))))
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    assert list(graph_work(graph)) == list(lowered_work(arch)), arch.to_yaml()
    for op in lower(arch):
        assert graph_nodes(graph, op.place) == lowered_nodes(op), op.key


@pytest.mark.parametrize("name", SMALL)
def test_lower_lists_every_node_shape_and_mac_of_the_reference_graph(name: str) -> None:
    check_agreement(SMALL[name])


@pytest.mark.parametrize("seed", range(50))
def test_lower_agrees_with_the_reference_graph_of_a_random_network(seed: int) -> None:
    check_agreement(varied(seed))


# --- the command ------------------------------------------------------------------------------------


def test_export_says_what_it_wrote_and_what_comes_next(hwnas: Callable[..., Any], tmp_path: Path) -> None:
    source, path = tmp_path / "small.yaml", tmp_path / "small.onnx"
    source.write_text(PADDED_WINDOWS.to_yaml())
    answer = hwnas("export", str(source), "--out", str(path), "--batch", "dynamic")
    assert answer.code == 0
    assert "parity  ONNX Runtime within" in answer.out
    assert f"Next: hwnas measure {path}" in answer.out
    assert "The weights are random" in answer.err
    assert logits_of(path, torch.zeros(4, 3, 40, 40)).shape == (4, 10)


def test_export_json_is_one_document(hwnas: Callable[..., Any], tmp_path: Path) -> None:
    source, path = tmp_path / "small.yaml", tmp_path / "small.onnx"
    source.write_text(PADDED_WINDOWS.to_yaml())
    document = json.loads(hwnas("export", str(source), "--out", str(path), "--json").out)
    assert document["schema"] == 1
    assert document["id"] == PADDED_WINDOWS.id
    assert document["weights"] == "random"
    assert document["size_bytes"] == path.stat().st_size
    assert document["parity_max_abs"] <= document["parity_tolerance"]


def test_a_checkpoint_is_exported_with_its_trained_weights(hwnas: Callable[..., Any], tmp_path: Path) -> None:
    network = randomise(build(SHVIT_LIKE), seed=5).eval()
    names = tuple(f"class {index}" for index in range(10))
    recipe = Recipe(epochs=1, batch_size=2, lr=0.1, warmup_epochs=0)
    saved = checkpoint.Checkpoint(dict(network.state_dict()), names, recipe, (), name="mine", arch=SHVIT_LIKE)
    checkpoint.save(saved, tmp_path / checkpoint.BEST)
    path = tmp_path / "model.onnx"
    answer = hwnas("export", str(tmp_path), "--out", str(path))
    assert (answer.code, answer.err) == (0, "")
    assert "mine" in answer.out and "trained weights" in answer.out
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        np.testing.assert_allclose(logits_of(path, images), network(images).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["uniform-t", "--out", "nowhere/model.onnx"], "no folder nowhere"),
        (["uniform-t", "--out", "."], "--out must be a file"),
        (
            ["uniform-t", "--out", "m.onnx", "--batch", "0"],
            "--batch must be a whole number from 1, or 'dynamic'",
        ),
        (["unifrom-t", "--out", "m.onnx"], "Did you mean 'uniform-t'"),
    ],
)
def test_export_refuses_in_one_line(
    arguments: list[str],
    message: str,
    hwnas: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = hwnas("export", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert file_names(tmp_path) == []
