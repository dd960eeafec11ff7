"""Architectures: YAML in and out, stable ids, and one clear line for each mistake."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from hwnas.errors import ArchError
from hwnas.space import ArchSpec, Reuse, SearchSpace, SingleHead, Stage, presets

ARCH = """
format: 1
resolution: 224
stages:
- width: 64
  blocks: [{type: reuse, heads: 4, kernels: [1, 3, 5, 7]}]
- width: 128
  layout: dw-attention-ffn
  blocks: [none, {type: single-head, channels: 27}]
"""


def with_line(old: str, new: str) -> str:
    assert old in ARCH
    return ARCH.replace(old, new)


def test_a_file_reads_as_the_architecture_it_describes() -> None:
    arch = ArchSpec.from_yaml(ARCH)
    assert arch.stages[0].blocks == (Reuse(heads=4, kernels=(1, 3, 5, 7)),)
    assert arch.stages[1].blocks == (None, SingleHead(channels=27))
    assert [stage.depth for stage in arch.stages] == [1, 2]


@pytest.mark.parametrize("name", presets())
def test_every_preset_survives_writing_and_reading(name: str) -> None:
    arch = presets()[name].arch
    again = ArchSpec.from_yaml(arch.to_yaml())
    assert again == arch
    assert again.id == arch.id


def test_random_networks_survive_writing_and_reading_and_have_ids_of_their_own() -> None:
    space, rng = SearchSpace.default(), random.Random(1)
    sampled = [space.sample(rng) for _ in range(200)]
    assert [ArchSpec.from_yaml(arch.to_yaml()) for arch in sampled] == sampled
    assert len({arch.id for arch in sampled}) == len(set(sampled))


def test_ids_are_the_same_in_another_process() -> None:
    code = "from hwnas.space import presets; print(*(p.arch.id for p in presets().values()))"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert printed.stdout.split() == [preset.arch.id for preset in presets().values()]


def test_ids_are_those_of_the_first_release() -> None:
    # The record: an id names a network in run directories and tables for good.
    assert presets()["uniform-t"].arch.id == "fadfffbbcacd"
    assert presets()["efficientvit-m0"].arch.id == "0506da572263"
    assert presets()["shvit-s1"].arch.id == "5a1894701a6f"


def test_an_adapted_network_keeps_its_blocks() -> None:
    arch = presets()["uniform-t"].arch
    small = arch.adapted(resolution=64, classes=10, stem_stride=4)
    assert (small.resolution, small.classes, small.stem.stride) == (64, 10, 4)
    assert small.stages == arch.stages
    assert small.adapted(resolution=224, classes=1000, stem_stride=16) == arch


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width: 64", "width: 62", "blocks[0]: width must be divisible by heads, got width=62 and heads=4"),
        ("width: 64", "width: 0", "stages[0].width: must be from 1 to 4096, got 0"),
        ("width: 64", "width: -8", "stages[0].width: must be from 1 to 4096, got -8"),
        ("width: 64", "width: 800000", "stages[0].width: must be from 1 to 4096, got 800000"),
        ("width: 64", "width: true", "stages[0].width: must be a whole number, got True (true or false)"),
        ("width: 64", "width: 1e-3", "stages[0].width: must be a whole number, got 0.001 (a number)"),
        ("width: 64", "width: .nan", "stages[0].width: must be a whole number, got nan (a number)"),
        ("resolution: 224", "resolution: 12:30", "resolution: must be a whole number, got '12:30' (text)"),
        ("type: reuse", "type: reus", "stages[0].blocks[0]: no attention 'reus'. Did you mean 'reuse'?"),
        ("[1, 3, 5, 7]", "[1, 3, 5]", "kernels: must be one per head, got 3 kernels for heads=4"),
        ("[1, 3, 5, 7]", "[1, 3, 5, 6]", "kernels[3]: a kernel must be odd and from 1 to 31, got 6"),
        ("channels: 27", "channels: 128", "channels: must be from 1 to width-1=127, got 128"),
        ("layout: dw", "layot: dw", "stages[1].layot: no such field. Did you mean 'layout'?"),
        ("layout: dw-attention-ffn", "layout: sandwhich", "Did you mean 'sandwich'?"),
        ("format: 1", "format: 2", "this hwnas reads up to 1, got 2: upgrade hwnas"),
        ("heads: 4,", "", "stages[0].blocks[0].heads: is required"),
        ("resolution: 224", "resolution: 224\nresolution: 256", "got 'resolution' again in line 4"),
        ("[none,", "[&a none, *a,", "aliases (*a) are not read"),
        ("format: 1", f"format: 1\nx: {'[' * 30}{']' * 30}", "nesting may be at most 24 deep"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_field_the_rule_and_what_came(old: str, new: str, message: str) -> None:
    with pytest.raises(ArchError) as raised:
        ArchSpec.from_yaml(with_line(old, new), source="mine.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("mine.yaml")


def test_all_mistakes_are_listed_at_once() -> None:
    text = with_line("width: 64", "width: yes").replace("channels: 27", "chanels: 27")
    with pytest.raises(ArchError) as raised:
        ArchSpec.from_yaml(text)
    assert len(str(raised.value).splitlines()) == 3  # the width, the unknown field, the missing one


def test_an_attention_is_not_built_when_it_breaks_a_rule() -> None:
    with pytest.raises(ArchError, match="divisible by heads, got width=30 and heads=4"):
        ArchSpec(stages=(Stage(30, (Reuse(heads=4, kernels=(1, 3, 5, 7)),)),))
