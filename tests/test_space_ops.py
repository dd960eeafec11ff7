"""The lowering: published counts come out, shapes follow, keys name ops for good."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from published_counts import COUNTS

from hwnas.errors import FileFormatError
from hwnas.space import OpSpec, SearchSpace, count_macs, count_params, lower, preset, presets
from hwnas.space.ops import peak_activation_bytes


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_macs_are_those_of_the_published_network(name: str) -> None:
    ops = lower(preset(name))
    params, mmacs = COUNTS[name]
    assert count_params(ops) == params
    assert round(count_macs(ops) / 1e6, 2) == mmacs


@pytest.mark.parametrize(
    ("name", "folded_m"),
    [("efficientvit-m0", 2.335), ("efficientvit-m3", 6.876), ("shvit-s1", 6.309), ("shvit-s4", 16.546)],
)
def test_parameters_with_batchnorm_folded_are_those_of_the_papers(name: str, folded_m: float) -> None:
    assert round(count_params(lower(preset(name)), folded=True) / 1e6, 3) == folded_m


@pytest.mark.parametrize("name", [name for name in COUNTS if "elevit" not in name])
def test_published_megaparams_are_ours_folded_or_without_the_classifier(name: str) -> None:
    info = presets()[name]
    ops = lower(info.arch)
    backbone = count_params(ops[:-1]) / 1e6  # UniForm leaves the classifier out, and truncates
    folded = count_params(ops, folded=True) / 1e6
    ours = math.floor(backbone * 10) / 10 if info.family == "uniform" else folded
    assert ours == pytest.approx(info.params_m, abs=0.06)


def test_elevit_has_the_parameters_of_its_released_code_and_of_its_paper() -> None:
    assert count_params(lower(preset("elevit-l"))) == 31_956_254
    assert round(count_macs(lower(preset("elevit-l"))) / 1e9, 2) == 3.60
    assert round(count_params(lower(preset("elevit-paper"))) / 1e6, 1) == presets()["elevit-paper"].params_m


def test_table_4s_depths_do_not_give_the_published_parameters_of_uniform_m() -> None:
    assert round(count_params(lower(preset("uniform-m-table4"))[:-1]) / 1e6, 3) == 6.667


def test_a_dw_op_counts_as_by_hand() -> None:
    op = OpSpec.from_key("dw(c=8,side=5)")
    assert op.macs == 8 * 5 * 5 * 9
    assert op.params == 8 * 9 + 2 * 8
    assert op.weight_bytes() == 4 * (8 * 9 + 8)
    assert op.activation_bytes() == 4 * (2 * 200 + 3 * 200)  # conv reads and writes; add reads two
    assert op.nodes == 2


def test_a_single_head_op_counts_as_by_hand() -> None:
    op = OpSpec.from_key("single-head(c=32,side=4,channels=8)")
    tokens = 16
    by_hand = tokens * 8 * (16 + 16 + 8) + tokens * tokens * (16 + 8) + tokens * 32 * 32
    assert op.macs == by_hand
    assert op.params == 2 * 8 + 8 * 40 + 2 * 40 + 32 * 32 + 2 * 32


def test_attention_within_windows_costs_what_its_windows_cost() -> None:
    one = OpSpec.from_key("reuse(c=64,side=7,heads=4,kernels=1-3-5-7)")
    four = OpSpec.from_key("reuse(c=64,side=14,heads=4,kernels=1-3-5-7)")
    padded = OpSpec.from_key("reuse(c=64,side=8,heads=4,kernels=1-3-5-7)")
    assert four.macs == 4 * one.macs
    assert padded.macs == four.macs
    assert padded.out_shape == (64, 8, 8)


def test_each_ops_input_is_the_output_of_the_one_before() -> None:
    rng, space = random.Random(3), SearchSpace.default()
    for arch in [space.sample(rng) for _ in range(50)] + [p.arch for p in presets().values()]:
        ops = lower(arch)
        assert ops[0].in_shape == (3, arch.resolution, arch.resolution)
        for before, after in itertools.pairwise(ops):
            assert after.in_shape == before.out_shape, (before.key, after.key)
        assert ops[-1].out_shape == (arch.classes,)


def test_sides_at_224_pixels_are_14_7_and_4() -> None:
    sides = {op.place.split(".")[1]: op.out_shape[1] for op in lower(preset("uniform-t"))[1:-1]}
    assert sides == {"0": 14, "1": 7, "2": 4}


def test_every_key_reads_back_as_its_op() -> None:
    rng, space = random.Random(4), SearchSpace.default()
    archs = [space.sample(rng) for _ in range(50)] + [p.arch for p in presets().values()]
    for op in {op for arch in archs for op in lower(arch)}:
        assert OpSpec.from_key(op.key) == op


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("dw", "kind(name=value,...)"),
        ("dv(c=8,side=5)", "no op kind 'dv'"),
        ("dw(c=8)", "is no op"),
        ("dw(c=8,side=5,heads=4)", "is no op"),
        ("reuse(c=8,side=5,heads=4,kernels=1)", "is no op"),
    ],
)
def test_a_key_that_names_no_op_is_refused(key: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message.replace("(", r"\(").replace(")", r"\)")):
        OpSpec.from_key(key)


def test_peak_memory_is_at_least_the_largest_map_and_less_than_all_traffic() -> None:
    ops = lower(preset("shvit-s1"))
    largest = max(math.prod(p.shape) for op in ops for p in op.primitives)
    assert 4 * largest < peak_activation_bytes(ops) < sum(op.activation_bytes() for op in ops)
