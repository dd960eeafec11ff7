"""The search space: every choice reachable, no network twice, moves that stay inside."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.space import SearchSpace, lower, presets
from hwnas.space.search_space import INACTIVE
from hwnas.space.vectors import Moves

TINY = {
    "format": 1,
    "name": "tiny",
    "resolution": [64],
    "stem_stride": [16],
    "attention": [
        "none",
        {"type": "reuse", "heads": 4, "kernels": [1, 3, 5, 7]},
        {"type": "single-head", "ratio": 4},
        {"type": "cascaded-group", "heads": 3, "kernels": [3, 3, 3]},
    ],
    "stages": [
        {"width": [32, 48], "depth": [1, 2], "layout": ["sandwich", "dw-attention-ffn"]},
        {"width": [64], "depth": [1], "ffn_ratio": [2, 3], "layout": ["dw-attention-ffn"]},
    ],
}
FIVE_HEADS = {"type": "reuse", "heads": 5, "kernels": [1, 1, 1, 1, 1]}


@pytest.fixture(scope="module")
def tiny() -> SearchSpace:
    return SearchSpace.from_dict(TINY)


def every_network(space: SearchSpace) -> list[tuple[int, ...]]:
    """All vectors that decode, by trying each one: the reference for size and encoding."""
    ranges = [range(INACTIVE, len(decision.choices)) for decision in space.decisions]
    found = []
    for vector in itertools.product(*ranges):
        try:
            space.decode(vector)
        except SpaceError:
            continue
        found.append(vector)
    return found


@pytest.mark.slow
def test_size_counts_what_trying_every_vector_finds_and_no_two_are_one_network(tiny: SearchSpace) -> None:
    vectors = every_network(tiny)
    assert len(vectors) == tiny.size
    archs = [tiny.decode(vector) for vector in vectors]
    assert len({arch.id for arch in archs}) == len(vectors)
    # Not only as data: no two run the same ops in the same order.
    assert len({tuple(op.key for op in lower(arch)) for arch in archs}) == len(vectors)
    assert [tiny.encode(arch) for arch in archs] == vectors


def test_sampling_reaches_every_network_of_a_small_space(tiny: SearchSpace) -> None:
    rng = random.Random(0)
    reached = {tiny.encode(tiny.sample(rng)) for _ in range(40 * tiny.size)}
    assert len(reached) == tiny.size


def test_neighbours_alone_reach_every_network_of_a_small_space(tiny: SearchSpace) -> None:
    moves, rng = Moves(tiny), np.random.default_rng(0)
    vectors = moves.random(20, rng)
    reached = set(map(tuple, vectors.tolist()))
    for _ in range(3 * tiny.size):
        vectors = moves.neighbours(vectors, rng)
        reached.update(map(tuple, vectors.tolist()))
    assert len(reached) == tiny.size


@pytest.mark.parametrize("name", ["default", "small-images"])
def test_every_choice_of_a_shipped_space_is_reached(name: str) -> None:
    space, rng = SearchSpace.from_yaml(name), random.Random(0)
    reached: list[set[int]] = [set() for _ in space.decisions]
    for _ in range(3000):
        for place, number in enumerate(space.encode(space.sample(rng))):
            reached[place].add(number)
    for decision, numbers in zip(space.decisions, reached, strict=True):
        assert numbers - {INACTIVE} == set(range(len(decision.choices))), decision.name


def test_the_default_space_holds_every_preset_of_the_shared_design() -> None:
    space = SearchSpace.default()
    shared = [p for p in presets().values() if p.family != "elevit" and p.name != "uniform-t-paper"]
    assert len(shared) == 15
    for info in shared:
        assert space.decode(space.encode(info.arch)) == info.arch, info.name


def test_the_default_space_is_too_large_to_try_all() -> None:
    assert SearchSpace.default().size > 10**20


def test_a_space_survives_writing_and_reading(tiny: SearchSpace) -> None:
    for space in (tiny, SearchSpace.default()):
        assert SearchSpace.from_dict(space.to_dict()) == space


def test_a_neighbour_is_another_network_of_the_space() -> None:
    space, rng = SearchSpace.default(), np.random.default_rng(5)
    moves = Moves(space)
    vectors = moves.random(300, rng)
    changed = moves.neighbours(vectors, rng)
    # A step to an attention that does not fit may be undone.
    assert (changed != vectors).any(axis=1).mean() > 0.95
    assert (moves.repaired(changed) == changed).all()


def test_a_child_takes_each_stage_whole_from_a_parent() -> None:
    space, rng = SearchSpace.default(), np.random.default_rng(6)
    moves = Moves(space)
    first, second = moves.random(100, rng), moves.random(100, rng)
    for a, b, child in zip(first, second, moves.children(first, second, rng), strict=True):
        a, b, child = space.decode(a), space.decode(b), space.decode(child)
        assert child.resolution in (a.resolution, b.resolution)
        for of_a, of_b, of_child in zip(a.stages, b.stages, child.stages, strict=True):
            assert of_child in (of_a, of_b)


def test_the_same_seed_gives_the_same_networks() -> None:
    space = SearchSpace.default()
    first = [space.sample(random.Random(7)) for _ in range(3)]
    assert first == [space.sample(random.Random(7)) for _ in range(3)]


def test_any_vector_is_repaired_to_a_network_and_a_networks_vector_is_left_alone() -> None:
    space, rng = SearchSpace.default(), random.Random(8)
    for _ in range(300):
        wild = [rng.randrange(-3, 20) for _ in space.decisions]
        repaired = space.repair(wild)
        assert space.encode(space.decode(repaired)) == repaired
        assert space.repair(repaired) == repaired


def test_a_vector_of_no_network_is_refused_with_the_nearest_one(tiny: SearchSpace) -> None:
    vector = list(tiny.encode(tiny.sample(random.Random(0))))
    vector[2] = 99
    with pytest.raises(SpaceError, match="is not the vector of a network; the nearest one is"):
        tiny.decode(vector)
    with pytest.raises(SpaceError, match=f"has {len(vector)} numbers, got 1"):
        tiny.decode([0])


def test_a_network_from_elsewhere_is_refused_with_the_reason(tiny: SearchSpace) -> None:
    with pytest.raises(SpaceError, match="networks of 2 stages, got 3"):
        tiny.encode(presets()["uniform-t"].arch)
    with pytest.raises(SpaceError, match="shared stem and head only"):
        SearchSpace.default().encode(presets()["elevit-l"].arch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": [64, 64]}, "resolution: a choice may stand there once"),
        ({"resolution": [64, 32]}, "resolution: numbers must rise"),
        ({"resolutions": [64]}, "no such field 'resolutions'. Did you mean 'resolution'?"),
        ({"format": 9}, "format must be from 1 to 1, got 9"),
        ({"attention": [{"type": "single-head", "ratio": 4}, {"type": "single-head", "ratio": 4.01}]},
         "two choices are the same attention at width=32"),
        ({"attention": ["none", FIVE_HEADS]}, "fits no width of any stage"),
        ({"attention": [{"type": "reuze", "heads": 4, "kernels": [1]}]}, "Did you mean 'reuse'?"),
        ({"stages": [{"width": [32], "depth": [1], "attention": ["none", FIVE_HEADS]}, *TINY["stages"]]},
         "stages[0].attention[1]: {'type': 'reuse', 'heads': 5"),
        ({"attention": ["none"], "stages": TINY["stages"][:1]}, "no attention fits width=32 in layout"),
    ],
)  # fmt: skip
def test_a_space_that_breaks_a_rule_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        SearchSpace.from_dict(TINY | change)
    assert message in str(raised.value)


def test_a_space_file_is_found_by_path_and_by_name(tmp_path: Path) -> None:
    from hwnas.io import yaml as yaml_io

    file = tmp_path / "mine.yaml"
    file.write_text(yaml_io.dump(TINY))
    assert SearchSpace.from_yaml(file).name == "tiny"
    assert SearchSpace.from_yaml("default") == SearchSpace.default()
    with pytest.raises(SpaceError, match=r"no space file 'defualt'\. Did you mean 'default'\?"):
        SearchSpace.from_yaml("defualt")
