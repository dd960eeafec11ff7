"""Weights that repeat: small on the way to a board, and the same work where they are timed."""

from __future__ import annotations

import zlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nn_archs import SHVIT_LIKE, SMALL
from onnx import numpy_helper

from hwnas.export.onnx_graph import network_graph, reference_graph
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import PERIOD, randomise, repeat_weights, repeated
from hwnas.nn import build, fold
from hwnas.space import ArchSpec, OpSpec, preset

LARGEST_OP = OpSpec("ffn", (("c", 448), ("side", 7), ("hidden", 1344)))


def large(model: bytes) -> dict[str, np.ndarray]:
    """The weights of a model that have more than PERIOD values, by name."""
    weights = onnx.load_from_string(model).graph.initializer
    arrays = {weight.name: numpy_helper.to_array(weight) for weight in weights}
    return {name: array for name, array in arrays.items() if array.size > PERIOD}


def test_a_large_array_repeats_values_from_all_over_it_and_keeps_its_shape() -> None:
    values = np.arange(5 * 7 * 300, dtype=np.float32).reshape(5, 7, 300)
    found = repeated(values)
    assert (found.shape, found.dtype) == (values.shape, values.dtype)
    flat = found.reshape(-1)
    assert np.array_equal(flat[PERIOD:], flat[:-PERIOD])
    assert len(set(flat.tolist())) == PERIOD
    assert flat.max() > 0.95 * values.max()


@pytest.mark.parametrize(
    ("runtime", "precision", "share"),
    [
        ("onnxruntime", "fp32", 0.015),
        ("onnxruntime", "int8", 0.03),
        ("ncnn", "fp32", 0.015),
        ("torch", "fp32", 0.03),
    ],
)
def test_a_model_to_be_timed_deflates_to_a_small_part_of_it(
    runtime: str, precision: str, share: float
) -> None:
    model = exporter(runtime, precision).op_model(LARGEST_OP, batch=1)
    assert len(zlib.compress(model, 1)) < share * len(model)


def test_weights_stay_of_the_size_they_had_and_none_is_zero_or_denormal() -> None:
    arch = preset("efficientvit-m0")
    folded = fold(randomise(build(arch)))
    before = large(network_graph(folded))
    after = large(network_graph(repeat_weights(folded)))
    assert before.keys() == after.keys()
    for name, weight in after.items():
        assert weight.shape == before[name].shape
        assert np.abs(weight).min() > 1e-12, name
        assert weight.std() == pytest.approx(before[name].std(), rel=0.25), name


def test_no_two_rows_of_a_matrix_and_no_two_matrices_are_alike() -> None:
    matrices = large(network_graph(repeat_weights(fold(randomise(build(preset("uniform-t")))))))
    seen = set()
    for name, weight in matrices.items():
        rows = weight.reshape(weight.shape[0], -1)
        if rows.shape[0] <= PERIOD:
            assert len(np.unique(rows, axis=0)) == rows.shape[0], name
        seen.add(weight.tobytes())
    assert len(seen) == len(matrices)


@pytest.mark.parametrize("arch", [*SMALL.values(), preset("uniform-l")], ids=lambda arch: arch.id)
def test_a_network_with_them_computes_ordinary_numbers(arch: ArchSpec) -> None:
    session = onnxruntime.InferenceSession(
        exporter("onnxruntime", "fp32").network_model(arch, batch=1), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).standard_normal((1, 3, arch.resolution, arch.resolution), np.float32)
    (logits,) = session.run(None, {"images": images})
    assert np.isfinite(logits).all()
    assert 1e-3 < np.abs(logits).max() < 1e3


def test_only_large_weights_change() -> None:
    folded = fold(randomise(build(preset("efficientvit-m0"))))
    before = {name: weight.clone() for name, weight in folded.state_dict().items()}
    repeat_weights(folded)
    changed = {name for name, weight in folded.state_dict().items() if not torch.equal(weight, before[name])}
    floats = {name for name, weight in before.items() if weight.is_floating_point()}
    assert changed == {name for name in floats if before[name].numel() > PERIOD}


def test_a_network_with_its_own_weights_is_exported_with_them() -> None:
    network = randomise(build(SHVIT_LIKE)).eval()
    folded = dict(fold(network).named_parameters())
    for name, weight in large(reference_graph(network)).items():
        assert np.array_equal(weight, folded[name].detach().numpy())
